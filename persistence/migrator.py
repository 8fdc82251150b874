"""The revisions of the schema: which one a database is at, which is the newest, and the way between them.

The revisions live in `migrations/`, and Alembic runs them. It is synchronous, so code in an event loop calls everything
but `applied_revision` in a thread.
"""

import io
import re
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, column, create_engine, event, select, table
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement

LOCK_TIMEOUT = "3s"
"""The wait of a revision for a table in use: as long as it waits, later statements on that table wait behind it.

Well below the 5 seconds that a request may take by default, so that requests come late, but do not fail.
"""
MIGRATION_LOCK_TIMEOUT = 120.0
"""Seconds to wait for another process that is migrating the same database."""
MIGRATION_LOCK_PAUSE = 0.1
"""Seconds between two attempts to get the migration lock."""
MIGRATION_LOCK = 0x746F646F
"""The key of the advisory lock that one process at a time holds to migrate: 'todo' in ASCII."""
CLIENT_CHECK_INTERVAL = "1s"
"""The delay until the server ends the statement of a process that was killed, which drops its migration lock."""

type Direction = Literal["up", "down"]
type State = Literal["up-to-date", "behind", "unknown"]

_CURRENT = Statement(select(column("version_num")).select_from(table("alembic_version")))


class MigrationError(Exception):
    """A revision could not be applied; the text names it, and PostgreSQL's or Python's reason."""


@dataclass(frozen=True)
class RevisionRun:
    """One revision that was applied or taken back; `duration` in seconds."""

    revision: str
    description: str
    direction: Direction
    duration: float


@cache
def revisions() -> dict[str, str]:
    """Each revision with its description, oldest first. Raises `MigrationError` for a file that cannot be read."""
    scripts = ScriptDirectory.from_config(_config())
    try:
        scripts.get_current_head()
        found: list[Script] = list(scripts.walk_revisions())
    except SyntaxError as error:
        place = f"{Path(error.filename or scripts.versions).name}, line {error.lineno}"
        raise MigrationError(f"{place} cannot be read: {error.msg}") from error
    except (CommandError, ImportError, NameError, KeyError) as error:
        raise MigrationError(f"The files in {scripts.versions} cannot be read: {error}") from error
    return {script.revision: script.doc.rstrip(".") for script in reversed(found)}


def head() -> str:
    """The newest revision in `migrations/versions`."""
    return list(revisions())[-1]


def state(current: str | None) -> State:
    """The state of a database at `current`; it is unknown if newer code has migrated it."""
    if current == head():
        return "up-to-date"
    return "behind" if current is None or current in revisions() else "unknown"


def current(dsn: Dsn) -> str | None:
    """The revision a database is at, None before the first. Opens a connection; raises `psycopg.OperationalError`."""
    with _connection(dsn) as connection:
        return MigrationContext.configure(connection).get_current_revision()


async def applied_revision(database: Database, timeout: float) -> str | None:
    """The same through the pool. One round trip; raises `Unavailable` after `timeout` seconds."""
    try:
        row = await database.row(_CURRENT, {}, timeout)
    except psycopg.errors.UndefinedTable:
        return None
    return row["version_num"] if row else None


def path(current: str | None, target: str) -> tuple[Direction, list[str]]:
    """The revisions to apply, or to take back, from one revision to another; "base" is before the first.

    Raises `MigrationError` for a revision that this code does not know.
    """
    known = ["base", *revisions()]
    target = head() if target == "head" else target
    for revision in (current, target):
        if revision is not None and revision not in known:
            raise MigrationError(f"There is no revision {revision} in this code; there are {', '.join(known)}")
    here, there = known.index(current or "base"), known.index(target)
    return ("up", known[here + 1 : there + 1]) if there >= here else ("down", known[here:there:-1])


def migrate(
    dsn: Dsn, target: str = "head", report: Callable[[RevisionRun], None] = lambda _: None
) -> list[RevisionRun]:
    """Goes up or down to a revision, each on the way in a transaction of its own, and returns what was run.

    Any number of processes may call it at once: one migrates, the others wait and find nothing to do.
    Raises `MigrationError`: the revisions before the one that failed remain, and nothing of that one, unless it runs
    outside of a transaction (`migrations/script.py.mako`).
    """
    config, runs = _config(), list[RevisionRun]()
    with locked_connection(dsn) as connection:
        config.attributes["connection"] = connection
        current = MigrationContext.configure(connection).get_current_revision()
        connection.commit()
        direction, revisions_to_go = path(current, target)
        for revision in revisions_to_go:
            started = time.monotonic()
            try:
                if direction == "up":
                    command.upgrade(config, revision)
                else:
                    command.downgrade(config, "-1")
            except Exception as error:
                # A migration is code, so anything can be wrong with it.
                raise MigrationError(f"Revision {revision} ({revisions()[revision]}) {_explain(error)}") from error
            runs.append(RevisionRun(revision, revisions()[revision], direction, time.monotonic() - started))
            report(runs[-1])
    return runs


def sql(current: str | None, target: str) -> str:
    """The SQL that `migrate` would run between two revisions; touches no database."""
    direction, _ = path(current, target)
    config = _config()
    config.output_buffer = io.StringIO()
    way = f"{current or 'base'}:{target}"
    (command.upgrade if direction == "up" else command.downgrade)(config, way, sql=True)
    return config.output_buffer.getvalue()


def new(description: str) -> Path:
    """Writes an empty revision from the template, numbered after the newest, and returns its file."""
    if not re.search(r"\w", description) or re.search(r'["\\]', description):
        raise MigrationError(
            'A revision needs a description without quotes and backslashes, such as "Add tasks.version"'
        )
    config = _config()
    # Alembic reports in its own words otherwise.
    config.cmd_opts = Namespace(quiet=True)
    script = command.revision(config, message=description.strip().rstrip("."), rev_id=f"{int(head()) + 1:04}")
    assert isinstance(script, Script)
    return Path(script.path)


@contextmanager
def locked_connection(dsn: Dsn) -> Iterator[Connection]:
    """A connection that holds the migration lock until it is closed. Raises `MigrationError`.

    The lock and the settings belong to the session, which a transaction pooler would change between two transactions.
    """
    dsn = dsn.direct()
    if dsn.is_pooled:
        raise MigrationError("DATABASE_URL leads to a pooler; migrate with a URL that goes around it")
    with _connection(dsn) as connection:
        try:
            connection.exec_driver_sql(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'")
            _wait_for_migration_lock(connection)
        except DBAPIError as error:
            raise MigrationError(f"Nothing was done: {_first_line(error)}") from error
        # A revision may set its own; the next one begins anew.
        event.listen(connection, "begin", lambda link: link.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
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
    hint = ""
    if isinstance(error.orig, psycopg.errors.LockNotAvailable):
        hint = f"; a lock was held for more than {LOCK_TIMEOUT}: run it again when the database is less busy"
    statement = " ".join((error.statement or "").split())
    return f"{became}: {_first_line(error)}{hint}{', in: ' * bool(statement)}{statement}"


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


@contextmanager
def _connection(dsn: Dsn) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(dsn.conninfo, connect_timeout=5)
    )
    try:
        connection = engine.connect()
    except OperationalError as error:
        # psycopg's own error says why, and `persistence.postgres.diagnosis` can read it.
        raise (error.orig or error) from None
    with connection:
        yield connection


def _config() -> Config:
    return Config(toml_file=Path(__file__).parent.parent / "pyproject.toml")
