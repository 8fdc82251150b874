"""What the indexes add to the time in which PostgreSQL creates a task: from the primary key alone to all of them."""

import random
from contextlib import ExitStack
from statistics import fmean, median
from typing import Any

import psycopg

from benchmarks import data, state
from benchmarks.explain import Explainer, explainer
from benchmarks.samples import a_new_task
from persistence import tasks
from persistence.postgres.dsn import Dsn

INSERTS = 1000
"""In a turn: more than the tag index collects before it takes them in, so that each turn has its share of that."""
WARM_UP = 5
"""Turns that do not count."""

_BYTES = """
SELECT oid::regclass::text, pg_table_size(oid) / (SELECT count(*)::float FROM tasks)
FROM pg_class WHERE oid = 'tasks'::regclass
    OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'tasks'::regclass)
ORDER BY relkind DESC, oid
"""


def measure(dsn: Dsn, users: int, turns: int) -> dict[str, Any]:
    """Microseconds of a create by the last index that the table has, and bytes of each for every task.

    Medians of turns. A table for each number of indexes, in the order of their making, has its turn before any has the
    next, so that all see the same changes of the machine; each creates for random ones of so many users.
    """
    with psycopg.connect(dsn.conninfo, autocommit=True) as connection:
        names = _copies(connection)
        sizes = connection.execute(_BYTES).fetchall()
        times: dict[str, list[float]] = {name: [] for name in names}
        with ExitStack() as stack:
            runners = {name: stack.enter_context(explainer(dsn, _schema(index))) for index, name in enumerate(names)}
            for number in range(WARM_UP + turns):
                for name, runner in runners.items():
                    taken = _turn(runner, random.Random(number), users)  # noqa: S311 - no secret
                    times[name] += [taken] if number >= WARM_UP else []
        for index in range(len(names)):
            connection.execute(f"DROP SCHEMA {_schema(index)} CASCADE".encode())
    return {
        "microseconds": {name: median(taken) for name, taken in times.items()},
        "turns": times,
        "bytes": dict(sizes),
    }


def _turn(runner: Explainer, dice: random.Random, users: int) -> float:
    taken = [
        runner.run(tasks.CREATE, a_new_task(dice, data.user_id(dice.randint(1, users)))).microseconds
        for _ in range(INSERTS)
    ]
    return fmean(taken)


def _copies(connection: psycopg.Connection) -> list[str]:
    """Makes copies of the table of tasks, each with one more index than the one before, and names them."""
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'tasks'::regclass AND NOT indisprimary ORDER BY indexrelid"
    ).fetchall()
    state.settle(connection)
    connection.execute("SET maintenance_work_mem = '512MB'")
    names = ["pk_tasks", *(name for name, _ in indexes)]
    for number in range(len(names)):
        schema = _schema(number)
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(
            f"CREATE TABLE {schema}.tasks (LIKE public.tasks INCLUDING DEFAULTS INCLUDING CONSTRAINTS)".encode()
        )
        connection.execute(f"INSERT INTO {schema}.tasks TABLE public.tasks".encode())
        connection.execute(f"ALTER TABLE {schema}.tasks ADD PRIMARY KEY (id)".encode())
        connection.execute(f"ALTER TABLE {schema}.tasks ADD FOREIGN KEY (user_id) REFERENCES public.users".encode())
        for _, definition in indexes[:number]:
            connection.execute(definition.replace("ON public.tasks", f"ON {schema}.tasks").encode())
        connection.execute(f"VACUUM (ANALYZE) {schema}.tasks".encode())
    connection.execute("CHECKPOINT")
    return names


def _schema(number: int) -> str:
    return f"with_{number}"
