"""The time that each index adds to the creation of a task in PostgreSQL."""

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
"""Inserts of a measurement: more than the tag index's pending list holds, so that each measurement merges that list."""
WARM_UP = 5
"""Measurements that do not count."""

_BYTES = """
SELECT oid::regclass::text, pg_table_size(oid) / (SELECT count(*)::float FROM tasks)
FROM pg_class WHERE oid = 'tasks'::regclass
    OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'tasks'::regclass)
ORDER BY relkind DESC, oid
"""


def measure(dsn: Dsn, users: int, rounds: int) -> dict[str, Any]:
    """Returns the microseconds of a create, by the last index that the table has, and each index's bytes per task.

    Each round measures a table with the primary key only, then one with the first index, and so on to all indexes, so
    that all tables see the same changes of the machine. The tasks belong to random users. The figures are medians.
    """
    with psycopg.connect(dsn.conninfo, autocommit=True) as connection:
        names = _copies(connection)
        sizes = connection.execute(_BYTES).fetchall()
        times: dict[str, list[float]] = {name: [] for name in names}
        with ExitStack() as stack:
            runners = {name: stack.enter_context(explainer(dsn, _schema(index))) for index, name in enumerate(names)}
            for number in range(WARM_UP + rounds):
                for name, runner in runners.items():
                    taken = _measure(runner, random.Random(number), users)  # noqa: S311 - tasks are not secret
                    times[name] += [taken] if number >= WARM_UP else []
        for index in range(len(names)):
            connection.execute(f"DROP SCHEMA {_schema(index)} CASCADE".encode())
    return {
        "microseconds": {name: median(taken) for name, taken in times.items()},
        "rounds": times,
        "bytes": dict(sizes),
    }


def _measure(runner: Explainer, rng: random.Random, users: int) -> float:
    taken = [
        runner.run(tasks.CREATE, a_new_task(rng, data.user_id(rng.randint(1, users)))).microseconds
        for _ in range(INSERTS)
    ]
    return fmean(taken)


def _copies(connection: psycopg.Connection) -> list[str]:
    """Copies the table of tasks once for each index, each copy with one more index, and returns the indexes' names."""
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
        connection.execute(f"ALTER TABLE {schema}.tasks ADD PRIMARY KEY (user_id, id)".encode())
        connection.execute(f"ALTER TABLE {schema}.tasks ADD FOREIGN KEY (user_id) REFERENCES public.users".encode())
        for _, definition in indexes[:number]:
            connection.execute(definition.replace("ON public.tasks", f"ON {schema}.tasks").encode())
        connection.execute(f"VACUUM (ANALYZE) {schema}.tasks".encode())
    connection.execute("CHECKPOINT")
    return names


def _schema(number: int) -> str:
    return f"with_{number}"
