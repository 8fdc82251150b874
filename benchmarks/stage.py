"""What the studies of the contenders share: a database with users and tasks, all of them on it, and turns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psycopg

from benchmarks import contenders, operations, postgres, state
from benchmarks.operations import Operation
from benchmarks.postgres import Postgres
from benchmarks.turns import Course, Turn, medians


@contextmanager
def database() -> Iterator[Postgres]:
    """With the users and tasks that the operations are about."""
    with postgres.temporary() as server:
        operations.fill(server.dsn)
        yield server


@contextmanager
def course(server: Postgres, port: int, clients: int, warm_up: float) -> Iterator[Course]:
    """All contenders, which reach the database at this port, its own or that of a proxy."""
    with (
        psycopg.connect(server.dsn.conninfo, autocommit=True) as connection,
        contenders.serving(port) as servers,
    ):
        state.settle(connection)
        yield Course(servers, server.process_id, connection, clients, warm_up)


def take_turns(track: Course, which: Sequence[Operation], rounds: int, seconds: float) -> dict[str, Any]:
    """By operation and contender: the medians over the rounds, and each round."""
    names = list(track.servers)
    results: dict[str, Any] = {}
    for operation in which:
        turns: dict[str, list[Turn]] = {name: [] for name in names}
        for number in range(rounds):
            # Everybody has his turn before anybody has the next, so that all see the same changes of the machine.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turns[name].append(track.turn(name, operation, seconds, seed=2 * number))
        results[operation.name] = {
            name: medians(taken) | {"turns": [asdict(turn) for turn in taken]} for name, taken in turns.items()
        }
    return results
