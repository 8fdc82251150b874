"""Spreads a database over the nodes of Citus, by owner, while it serves (docs/adr/0037-citus.md).

Each step looks first if it is done. So it may be run again at any time, also after a failure at any step.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from persistence import history, migrator
from persistence.distribution_steps import FAULTS, NOT_THE_COORDINATOR, STEPS, Step
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import CONNECT_TIMEOUT

LOCK_TIMEOUT = "200ms"
"""The wait of a step for a table: as long as it waits, later statements on that table wait behind it.

Less than `deadlock_timeout` (1 s), as writes take these tables in either order: the step gives way, and no write does.
"""
PAUSE = 0.3
"""Seconds until it tries again, in which those that waited behind it have their turn."""
PATIENCE = 120.0
"""Seconds for which it tries: an export, which keeps its table for as long as it runs, may take minutes."""


class DistributionError(Exception):
    """The database cannot be spread, or not yet; the text says why and how to mend it."""


@dataclass(frozen=True)
class StepRun:
    """A step that was run; `duration` in seconds."""

    step: Step
    duration: float


@dataclass(frozen=True)
class Table:
    """A table in shards; `kind` is "distributed", "reference", "local" or "plain"."""

    name: str
    kind: str
    shards: int
    bytes: int


@dataclass(frozen=True)
class Node:
    """A node that may have shards of the tables."""

    address: str
    is_active: bool
    shards: int
    bytes: int


@dataclass(frozen=True)
class Status:
    """The steps that are left, and what is where."""

    left: list[Step]
    tables: list[Table]
    nodes: list[Node]


_TABLES = """
SELECT name, coalesce(citus_table_type, 'plain') AS kind, coalesce(shard_count, 1)::int AS shards,
    CASE WHEN citus_table_type IS NULL THEN pg_total_relation_size(name::regclass)
    ELSE citus_total_relation_size(name::regclass) END AS bytes
FROM unnest(ARRAY['tasks', 'users', 'alembic_version']) WITH ORDINALITY AS wanted (name, place)
LEFT JOIN citus_tables ON table_name = name::regclass ORDER BY place
"""
_NODES = """
SELECT format('%s:%s', node.nodename, node.nodeport) AS address, isactive AS is_active,
    count(shardid)::int AS shards, coalesce(sum(shard_size), 0)::bigint AS bytes
FROM pg_dist_node AS node LEFT JOIN citus_shards AS shard
ON (shard.nodename, shard.nodeport) = (node.nodename, node.nodeport)
    AND table_name IN ('tasks'::regclass, 'users'::regclass, 'alembic_version'::regclass)
WHERE noderole = 'primary' GROUP BY node.nodename, node.nodeport, isactive ORDER BY 1
"""
PLAIN = (
    "This is plain PostgreSQL: the extension citus is missing. Install Citus on this server and on each worker, add it"
    " to shared_preload_libraries, and run CREATE EXTENSION citus in this database and in one of the same name on each"
    " worker (docs/scaling.md, Beyond one machine)."
)
_SETTINGS = "SET statement_timeout = 0; SET client_min_messages = warning"
# On all nodes: each has locks of its own on a table that Citus knows.
_WAIT_SHORTLY = f"SET LOCAL citus.propagate_set_commands = 'local'; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"


def distribute(
    dsn: Dsn,
    report: Callable[[StepRun], None] = lambda _: None,
    connect_timeout: int = CONNECT_TIMEOUT,
    revision: str = "head",
) -> list[StepRun]:
    """Takes the steps that are left, and returns them. No migration can run meanwhile.

    The database has to be at this revision; a test begins with an old one. Raises `DistributionError`, after which the
    steps before the one that failed remain, `MigrationError`, and `psycopg.Error`.
    """
    runs = list[StepRun]()
    with _connection(dsn, connect_timeout) as connection:
        _require_revision(connection, history.head() if revision == "head" else revision)
        for step in STEPS:
            if not _is_done(connection, step):
                started = time.monotonic()
                _take(connection, step)
                runs.append(StepRun(step, time.monotonic() - started))
                report(runs[-1])
    return runs


def status(dsn: Dsn, connect_timeout: int = CONNECT_TIMEOUT) -> Status:
    """The state of the database, which it does not change. Raises the same."""
    with _connection(dsn, connect_timeout) as connection:
        return Status(
            [step for step in STEPS if not _is_done(connection, step)],
            connection.cursor(row_factory=class_row(Table)).execute(_TABLES).fetchall(),
            connection.cursor(row_factory=class_row(Node)).execute(_NODES.encode()).fetchall(),
        )


@contextmanager
def _connection(dsn: Dsn, connect_timeout: int) -> Iterator[psycopg.Connection]:
    """A connection that holds the migration lock, to a database that can be spread."""
    with migrator.locked_connection(dsn, connect_timeout) as locked:
        connection = locked.connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        connection.autocommit = True
        # Citus makes two statements of some, which cannot be prepared.
        connection.prepare_threshold = None
        connection.execute(_SETTINGS)
        if faults := _faults(connection):
            raise DistributionError("\n".join(faults))
        try:
            yield connection
        finally:
            if connection.closed:
                # SQLAlchemy has not seen how it was lost, and would roll it back.
                locked.invalidate()


def _faults(connection: psycopg.Connection) -> list[str]:
    def lines(*queries: str) -> list[str]:
        return [fault for query in queries for (fault,) in connection.execute(query.encode()).fetchall()]

    has_citus = _holds(connection, "EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")
    if has_citus and (faults := lines(NOT_THE_COORDINATOR)):
        return faults
    if not _holds(connection, "to_regclass('tasks') IS NOT NULL"):
        return ["There are no tables yet. Run `manage.py migrate_sql` first."]
    return lines(*FAULTS) if has_citus else [PLAIN]


def _require_revision(connection: psycopg.Connection, revision: str) -> None:
    current = migrator.the_one([row for (row,) in connection.execute(migrator.APPLIED.query).fetchall()])
    if current != revision:
        raise DistributionError(
            f"The database is at revision {current or 'nothing'} instead of {revision}: run `manage.py migrate_sql`."
        )


def _holds(connection: psycopg.Connection, condition: str) -> bool:
    row = connection.execute(f"SELECT {condition}".encode()).fetchone()
    return bool(row and row[0])


def _is_done(connection: psycopg.Connection, step: Step) -> bool:
    return _holds(connection, step.is_done)


def _take(connection: psycopg.Connection, step: Step) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if step.is_whole:
                with connection.transaction():
                    connection.execute(_WAIT_SHORTLY.encode())
                    _run(connection, step)
            else:
                _run(connection, step)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() >= deadline:
                raise _failed(step, error) from error
            time.sleep(PAUSE)
        except psycopg.Error as error:
            raise _failed(step, error) from error
        else:
            return


def _run(connection: psycopg.Connection, step: Step) -> None:
    for statement in step.statements:
        connection.execute(statement.encode())


def _failed(step: Step, error: psycopg.Error) -> DistributionError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return DistributionError(
        f"{step.description}: {reason}. The steps before it are done; run it again for the others."
    )
