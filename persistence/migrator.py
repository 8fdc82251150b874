"""Migrations: which revision a database is at, and the way to another one. `persistence/history.py` reads the files.

Alembic runs them. It is synchronous, so code in an event loop calls everything but `applied_revision` in a thread.
"""

import io
import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection, column, create_engine, event, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from persistence import history
from persistence.history import Direction, MigrationError, number_after, path, revisions
from persistence.postgres.compatibility import require_compatible
from persistence.postgres.database import Database
from persistence.postgres.diagnosis import GRANT
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import SchemaMismatch
from persistence.postgres.options import CONNECT_TIMEOUT
from persistence.postgres.statement import Statement

LOCK_TIMEOUT = "3s"
"""The wait of a revision for a table in use: as long as it waits, later statements on that table wait behind it.

Well below the 5 seconds that a request may take by default, so that requests come late, but do not fail.
"""
SET_LOCK_TIMEOUT = f"SET lock_timeout = '{LOCK_TIMEOUT}'"
MIGRATION_LOCK_TIMEOUT = 120.0
"""Seconds to wait for another process that is migrating the same database."""
MIGRATION_LOCK_PAUSE = 0.1
"""Seconds between two attempts to get the migration lock."""
MIGRATION_LOCK = 0x746F646F
"""The key of the advisory lock that one process at a time holds to migrate: 'todo' in ASCII."""
CLIENT_CHECK_INTERVAL = "1s"
"""The delay until the server ends the statement of a process that was killed, which drops its migration lock."""

APPLIED = Statement("revision", select(column("version_num")).select_from(table("alembic_version")))
"""The revision that a database is at, as `the_one` takes it."""
HIDDEN = Statement.script(
    "rights",
    """
SELECT 'USAGE on schema ' || relnamespace::regnamespace AS missing FROM pg_class
WHERE relname = 'alembic_version' AND NOT has_schema_privilege(relnamespace, 'USAGE')
AND to_regclass('alembic_version') IS NULL AND relnamespace::regnamespace::text = ANY (
    regexp_split_to_array(replace(current_setting('search_path'), '"$user"', quote_ident(current_user)), ' *, *')
)
""",
    columns=("missing",),
)
"""A right that is missing to a schema of the `search_path`. PostgreSQL says that the tables in it do not exist."""


@dataclass(frozen=True)
class RevisionRun:
    """One revision that was applied or taken back; `duration` in seconds."""

    revision: str
    description: str
    direction: Direction
    duration: float


def current(dsn: Dsn, connect_timeout: int = CONNECT_TIMEOUT) -> str | None:
    """The revision a database is at, None before the first. Opens a connection.

    Raises `MigrationError` for a database at several, or whose schema may not be used, and `psycopg.Error`.
    """
    with _connection(dsn, connect_timeout) as connection:
        connection.exec_driver_sql(SET_LOCK_TIMEOUT)
        return _current(connection)


async def applied_revision(database: Database, timeout: float) -> str | None:
    """The same through the pool. One round trip, or two if the table is not there.

    Raises `MigrationError`, and `Unavailable` after `timeout` seconds, or if the schema hides the table.
    """
    deadline = time.monotonic() + timeout
    try:
        return the_one([row["version_num"] for row in await database.rows(APPLIED, {}, timeout)])
    except SchemaMismatch:
        if await database.rows(HIDDEN, {}, max(0.0, deadline - time.monotonic())):
            raise
        # The table does not exist yet.
        return None


def the_one(applied: Sequence[str]) -> str | None:
    """The only revision of a database, None before the first. Raises `MigrationError` for several."""
    if len(applied) > 1:
        raise MigrationError(
            f"The database is at {' and '.join(sorted(applied))} at once: leave the row in alembic_version that is true"
        )
    return applied[0] if applied else None


def migrate(
    dsn: Dsn,
    target: str = "head",
    report: Callable[[RevisionRun], None] = lambda _: None,
    connect_timeout: int = CONNECT_TIMEOUT,
) -> list[RevisionRun]:
    """Goes up or down to a revision, each on the way in a transaction of its own, and returns what was run.

    Any number of processes may call it at once: one migrates, the others wait and find nothing to do.
    Raises `MigrationError`: the revisions before the one that failed remain, and nothing of that one, unless it runs
    outside of a transaction (`migrations/script.py.mako`).
    """
    settings, runs = history.config(), list[RevisionRun]()
    with locked_connection(dsn, connect_timeout) as connection:
        settings.attributes["connection"] = connection
        direction, revisions_to_go = path(_current(connection), target)
        connection.commit()
        for revision in revisions_to_go:
            started = time.monotonic()
            try:
                if direction == "up":
                    command.upgrade(settings, revision)
                else:
                    command.downgrade(settings, "-1")
            except Exception as error:
                # A migration is code, so anything can be wrong with it.
                raise MigrationError(f"Revision {revision} ({revisions()[revision]}) {_explain(error)}") from error
            runs.append(RevisionRun(revision, revisions()[revision], direction, time.monotonic() - started))
            report(runs[-1])
    return runs


def sql(current: str | None, target: str) -> str:
    """The SQL that `migrate` would run between two revisions, but for its lock; touches no database."""
    direction, revisions_to_go = path(current, target)
    if not revisions_to_go:
        return f"-- Nothing to do: the database is at {current or 'nothing'}.\n"
    settings = history.config()
    settings.output_buffer = io.StringIO()
    way = f"{current or 'base'}:{target}"
    (command.upgrade if direction == "up" else command.downgrade)(settings, way, sql=True)
    # As for those that run: a revision may set its own limit, and the next one begins anew.
    return settings.output_buffer.getvalue().replace("BEGIN;\n", f"BEGIN;\n\n{SET_LOCK_TIMEOUT};\n")


def new(description: str) -> Path:
    """Writes an empty revision from the template, numbered after the newest, and returns its file."""
    if not re.search(r"\w", description) or re.search(r'["\\]', description):
        raise MigrationError(
            'A revision needs a description without quotes and backslashes, such as "Add tasks.version"'
        )
    settings = history.config()
    # Alembic reports in its own words otherwise.
    settings.cmd_opts = Namespace(quiet=True)
    script = command.revision(settings, message=description.strip().rstrip("."), rev_id=number_after(revisions()))
    assert isinstance(script, Script)
    return Path(script.path)


@contextmanager
def locked_connection(dsn: Dsn, connect_timeout: int = CONNECT_TIMEOUT) -> Iterator[Connection]:
    """A connection that holds the migration lock until it is closed. Raises `MigrationError`.

    The lock and the settings belong to the session, which a transaction pooler would change between two transactions.
    """
    dsn = dsn.direct()
    if dsn.is_pooled:
        raise MigrationError("DATABASE_URL leads to a pooler; set DATABASE_URL_DIRECT to a URL that goes around it")
    with _connection(dsn, connect_timeout) as connection:
        try:
            connection.exec_driver_sql(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'")
            _wait_for_migration_lock(connection)
        except DBAPIError as error:
            raise MigrationError(f"Nothing was done: {_first_line(error)}") from error
        # A revision may set its own; the next one begins anew.
        event.listen(connection, "begin", lambda link: link.exec_driver_sql(SET_LOCK_TIMEOUT))
        yield connection


def _wait_for_migration_lock(connection: Connection) -> None:
    # A statement that waits for the lock in PostgreSQL holds a snapshot, and CREATE INDEX CONCURRENTLY of the process
    # that has the lock waits for that: a deadlock. So this asks again and again.
    deadline = time.monotonic() + MIGRATION_LOCK_TIMEOUT
    while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({MIGRATION_LOCK})").scalar():
        connection.commit()
        if time.monotonic() >= deadline:
            waited = f"another process has been migrating for more than {MIGRATION_LOCK_TIMEOUT:g} s"
            raise MigrationError(f"Nothing was done: {waited}")
        time.sleep(MIGRATION_LOCK_PAUSE)
    connection.commit()


def _explain(error: Exception) -> str:
    """The fate of a revision, and why; all words are its own or PostgreSQL's, so nothing is secret."""
    if not isinstance(error, DBAPIError):
        return f"failed: {type(error).__name__}: {str(error).replace('\n', ' ')}"
    became = "may be applied or not, as the connection was lost" if error.connection_invalidated else "failed"
    hints = {
        "25006": "; the server only reads: DATABASE_URL has to lead to one that writes",
        "3F000": "; let the search_path of the role or of DATABASE_URL name a schema that exists",
        "42501": "; set DATABASE_URL_DIRECT to a URL of the role that owns the tables and may create in their schema",
        "55P03": f"; a lock was held for more than {LOCK_TIMEOUT}: run it again when the database is less busy",
    }
    hint = hints.get(getattr(error.orig, "sqlstate", None) or "", "")
    # A revision that refuses by itself has said why.
    refused = isinstance(error.orig, psycopg.errors.RaiseException)
    statement = "" if refused else " ".join((error.statement or "").split())
    return f"{became}: {_first_line(error)}{hint}{', in: ' * bool(statement)}{statement}"


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _current(connection: Connection) -> str | None:
    applied = MigrationContext.configure(connection).get_current_heads()
    if not applied and (missing := connection.exec_driver_sql(HIDDEN.text).scalar()):
        raise MigrationError(f"Missing rights: {missing}. {GRANT}")
    return the_one(applied)


@contextmanager
def _connection(dsn: Dsn, connect_timeout: int) -> Iterator[Connection]:
    """A connection that is closed at the end. Raises psycopg's errors, which `diagnosis` can read, not SQLAlchemy's."""

    def connect() -> psycopg.Connection:
        return require_compatible(psycopg.connect(dsn.conninfo, connect_timeout=connect_timeout))

    try:
        with create_engine("postgresql+psycopg://", poolclass=NullPool, creator=connect).connect() as connection:
            yield connection
    except DBAPIError as error:
        raise (error.orig or error) from None
