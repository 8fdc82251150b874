"""Whether what belongs to somebody else can be told from what does not exist by the time that an answer takes."""

import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import override
from uuid import UUID

import psycopg

from persistence.postgres.dsn import Dsn
from tests.fuzz.conversation import Conversation

BLOCK = 50
"""Pairs that are compared with each other. A machine is not equally fast for long, which would hide a difference."""
WARM_UP = 200

type Write = Callable[[UUID], bytes]
"""The request about a task, which has to be answered with 404."""


@dataclass
class Comparison:
    """Microseconds of both kinds, each taken in turns."""

    foreign: list[float] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.foreign), statistics.median(self.missing)

    @property
    def interval(self) -> tuple[float, float]:
        """In which the chance lies, with 95 % confidence, that an answer about a foreign task takes the longer time.

        It is 0.5 when the two cannot be told apart (Mann and Whitney's U, divided by its largest value). Each block
        gives one estimate, and how these scatter gives the interval.
        """
        blocks = range(0, len(self.foreign), BLOCK)
        chances = [_chance(self.foreign[at : at + BLOCK], self.missing[at : at + BLOCK]) for at in blocks]
        middle, error = statistics.mean(chances), statistics.stdev(chances) / len(chances) ** 0.5
        return middle - 1.96 * error, middle + 1.96 * error

    @override
    def __str__(self) -> str:
        low, high = self.interval
        foreign, missing = self.medians
        return f"{foreign:.1f} / {missing:.1f} us, AUC {low:.3f}..{high:.3f}"


def _chance(some: Sequence[float], others: Sequence[float]) -> float:
    """That one of `some` is greater than one of the `others`; equal ones count half."""
    ordered = sorted(others)
    wins = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in some)
    return wins / (2 * len(some) * len(others))


def compare(port: int, write: Write, foreign: Sequence[UUID], pairs: int, seed: int) -> Comparison:
    """Asks for a foreign task and a missing one in turns, in an order that nothing else can follow by chance."""
    random = Random(seed)  # noqa: S311 - no secret
    comparison = Comparison()
    conversation = Conversation(port)
    for number in range(pairs + WARM_UP):
        # An id out of many must first come into the processor's cache, which is not to be measured.
        turns = [
            (comparison.foreign, write(random.choice(foreign))),
            (comparison.missing, write(UUID(int=random.getrandbits(128), version=4))),
        ]
        random.shuffle(turns)
        for times, request in turns:
            started = time.perf_counter_ns()
            answer = conversation.ask(request)
            took = (time.perf_counter_ns() - started) / 1000
            assert answer.status == 404
            if number >= WARM_UP:
                times.append(took)
    conversation.close()
    return comparison


def furnish(dsn: Dsn, tasks: int) -> tuple[UUID, list[UUID]]:
    """A user with one task among the tasks of somebody else, whose ids are returned as well."""
    with psycopg.connect(dsn.conninfo, autocommit=True) as connection:
        made = connection.execute(
            "INSERT INTO users (id, email) SELECT id, id || '@example.com'"
            " FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 2)) AS ids RETURNING id"
        ).fetchall()
        (alice,), (bob,) = made
        fill = (
            "INSERT INTO tasks (id, user_id, title, description, tags) SELECT gen_random_uuid(), %s, 'Task ' || number,"
            " repeat('x', 300), ARRAY['home', 'work'] FROM generate_series(1, %s) AS number RETURNING id"
        )
        connection.execute(fill, [alice, 1])
        theirs = [task for (task,) in connection.execute(fill, [bob, tasks])]
        connection.execute("VACUUM ANALYZE tasks")
    return alice, theirs
