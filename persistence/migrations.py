"""The schema's history: which step a database is at, which is the newest, and the way between them.

The steps live in `migrations/`, and Alembic runs them. It is synchronous, so code in an event loop calls everything but
`applied_revision` in a thread.
"""

import io
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypedDict
from uuid import uuid4

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, column, create_engine, event, select, table, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from persistence.database import Database
from persistence.dsn import Dsn
from persistence.statement import Statement

LOCK_TIMEOUT = "3s"
"""How long a step waits for a table in use: as long as it waits, later statements on that table wait behind it.

Well below the 5 seconds that a request may take by default, so that requests come late, but do not fail.
"""
TURN_TIMEOUT = "120s"
"""How long to wait for another process that is migrating the same database."""
TURN_KEY = 0x746F646F
"""The advisory lock of whoever migrates: 'todo' in ASCII."""
TURN_MARK = "todo.turn"
"""The setting of his session by which he knows it again."""
NOTICE_DEATH_WITHIN = "1s"
"""How soon the server ends the statement of a process that was killed, which otherwise keeps its turn until then."""

type Direction = Literal["up", "down"]
type State = Literal["up-to-date", "behind", "unknown"]


class _Version(TypedDict):
    version_num: str


_CURRENT = Statement(select(column("version_num")).select_from(table("alembic_version")), _Version)


class MigrationError(Exception):
    """A step could not be run; the text names the step and what PostgreSQL said, and nothing of the step remains."""


@dataclass(frozen=True)
class Step:
    """One step that was run; `duration` in seconds."""

    revision: str
    description: str
    direction: Direction
    duration: float


@cache
def head() -> str:
    """The newest revision in `migrations/versions`. Reads the files once in a process."""
    return list(revisions())[-1]


def state(current: str | None) -> State:
    """How a database at `current` stands to the code: one that is ahead of it has a revision unknown here."""
    if current == head():
        return "up-to-date"
    return "behind" if current is None or current in revisions() else "unknown"


@cache
def revisions() -> dict[str, str]:
    """Each revision with its description, oldest first. Raises `MigrationError` for a step that cannot be read."""
    scripts = ScriptDirectory.from_config(_config())
    try:
        steps: list[Script] = list(scripts.walk_revisions())
    except SyntaxError as error:
        raise _unreadable(error) from error
    except (CommandError, ImportError, NameError) as error:
        raise MigrationError(f"The steps in {scripts.versions} cannot be read: {error}") from error
    return {step.revision: step.doc.rstrip(".") for step in reversed(steps)}


def current(dsn: Dsn) -> str | None:
    """The revision a database is at, None before the first. Opens a connection; raises `psycopg.OperationalError`."""
    with _connection(dsn) as connection:
        return MigrationContext.configure(connection).get_current_revision()


async def applied_revision(database: Database, timeout: float) -> str | None:
    """As `current`, but through the pool. One round trip; raises `Unavailable` after `timeout` seconds."""
    try:
        row = await database.row(_CURRENT, {}, timeout)
    except psycopg.errors.UndefinedTable:
        return None
    return row["version_num"] if row else None


def upgrade(dsn: Dsn, revision: str = "head", report: Callable[[Step], None] | None = None) -> list[Step]:
    """Runs the steps up to a revision, each in a transaction of its own, and returns those it ran.

    Any number of processes may call it at once: one runs the steps, the others wait and find nothing to do.
    Raises `MigrationError`.
    """
    return _run(dsn, command.upgrade, revision, "up", report)


def downgrade(dsn: Dsn, revision: str, report: Callable[[Step], None] | None = None) -> list[Step]:
    """Takes steps back down to a revision, or by a count such as `-1`; otherwise as `upgrade`."""
    return _run(dsn, command.downgrade, revision, "down", report)


def sql(direction: Direction, revision: str) -> str:
    """The SQL that `upgrade` from nothing, or `downgrade` over `from:to`, would run; touches no database."""
    config = _config()
    config.output_buffer = io.StringIO()
    (command.upgrade if direction == "up" else command.downgrade)(config, revision, sql=True)
    return config.output_buffer.getvalue()


def new(description: str) -> Path:
    """Writes an empty step from the template, numbered after the newest, and returns its file."""
    if not re.search(r"\w", description):
        raise MigrationError('a step needs a description, such as "add tasks.version"')
    if re.search(r'["\\]', description):
        raise MigrationError("the description becomes a docstring, so it has neither quotes nor backslashes")
    number = f"{int(head()) + 1:04}"
    config = _config()
    # Alembic reports in its own words otherwise.
    config.cmd_opts = Namespace(quiet=True)
    script = command.revision(config, message=description.strip().rstrip("."), rev_id=number)
    assert isinstance(script, Script)
    return Path(script.path)


@contextmanager
def locked_connection(dsn: Dsn) -> Iterator[Connection]:
    """A connection that has its turn to migrate: nobody else does until it is closed."""
    with _connection(dsn.direct()) as connection:
        _notice_death(connection)
        connection.execute(text(f"SET lock_timeout = '{TURN_TIMEOUT}'"))
        mark = uuid4().hex
        take = f"SELECT pg_advisory_lock({TURN_KEY}), set_config('{TURN_MARK}', '{mark}', false), pg_backend_pid()"
        try:
            session = connection.execute(text(take)).one()[2]
        except OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise MigrationError(f"Nothing was done: {_first_line(error)}") from error
            raise MigrationError(
                f"Another process has been migrating for more than {TURN_TIMEOUT}, so nothing was done"
            ) from error
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        # The settings and the lock belong to the session; each step then makes a transaction of its own.
        connection.commit()
        event.listen(connection, "begin", insist := partial(_insist_on_turn, mark))
        try:
            yield connection
        finally:
            event.remove(connection, "begin", insist)
            with suppress(DBAPIError):
                _end_turn(connection, mark, session)


def _insist_on_turn(mark: str, connection: Connection) -> None:
    """A transaction pooler may lend another session for each transaction, and the same one to several clients."""
    if not _has_turn(connection, mark):
        raise MigrationError(
            "DATABASE_URL leads to a pooler that changes sessions, so nobody knows whose turn it is to migrate; "
            "migrate with a URL that goes around it"
        )


def _has_turn(connection: Connection, mark: str) -> bool:
    found: str | None = connection.scalar(text(f"SELECT current_setting('{TURN_MARK}', true)"))
    return found == mark


def _end_turn(connection: Connection, mark: str, session: int) -> None:
    """The end of the connection does it as well, but not behind a pooler."""
    if connection.invalidated:
        return
    connection.rollback()
    if _has_turn(connection, mark):
        connection.execute(text("SELECT pg_advisory_unlock_all()"))
        for name in ("lock_timeout", "client_connection_check_interval", TURN_MARK):
            connection.execute(text(f"RESET {name}"))
    else:
        lost = (
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = :key AND pid = :pid"
        )
        connection.execute(text(lost), {"key": TURN_KEY, "pid": session})
    connection.commit()


def _notice_death(connection: Connection) -> None:
    try:
        connection.execute(text(f"SET client_connection_check_interval = '{NOTICE_DEATH_WITHIN}'"))
        connection.commit()
    except DBAPIError:
        # A server on Windows cannot watch its clients.
        connection.rollback()


class _Progress:
    """Which steps are done. Alembic says it of a step before it commits, so the step counts once another begins."""

    def __init__(self, direction: Direction, report: Callable[[Step], None] | None) -> None:
        self.done: list[Step] = []
        self.is_torn = False
        """Whether the step that is under way has committed something already, outside of its transaction."""
        self.is_committing = False
        """Whether the step that is under way is past its last statement."""
        self._direction = direction
        self._report = report
        self._revision: str | None = None
        self._started = monotonic()

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        listeners = {"begin": lambda _: self._count(), "commit": lambda _: self._note_commit()}
        for name, listener in listeners.items():
            event.listen(connection, name, listener)
        self._started = monotonic()
        try:
            yield
            self._count()
        finally:
            for name, listener in listeners.items():
                event.remove(connection, name, listener)

    def note_step(self, *, step: Any, **_: Any) -> None:
        self._revision = step.up_revision_id

    def _count(self) -> None:
        """Counts the step that has ended, if any has."""
        if (name := self._revision) is None:
            return
        now = monotonic()
        self.done.append(Step(name, revisions()[name], self._direction, now - self._started))
        self._started, self._revision, self.is_torn, self.is_committing = now, None, False, False
        if self._report:
            self._report(self.done[-1])

    def _note_commit(self) -> None:
        if self._revision is None:
            self.is_torn = True
        else:
            self.is_committing = True


def _run(
    dsn: Dsn,
    run: Callable[[Config, str], None],
    revision: str,
    direction: Direction,
    report: Callable[[Step], None] | None,
) -> list[Step]:
    progress = _Progress(direction, report)
    config = _config()
    config.attributes["on_version_apply"] = progress.note_step
    with locked_connection(dsn) as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        connection.commit()
        config.attributes["connection"] = connection
        try:
            with progress.watching(connection):
                run(config, revision)
        except MigrationError:
            raise
        except CommandError as error:
            raise MigrationError(str(error).replace("\n", " ")) from error
        except SyntaxError as error:
            raise _unreadable(error) from error
        except Exception as error:
            # A step is code, so anything can be wrong with it.
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            raise MigrationError(f"{_failed(before, direction, progress, lost)}: {_explain(error)}") from error
    return progress.done


def _failed(before: str | None, direction: Direction, progress: _Progress, lost: bool) -> str:
    """Which step failed, the one after those that were done in the direction of the way, and what is left of it."""
    order, done = [None, *revisions()], len(progress.done)
    at = order.index(before) + (done if direction == "up" else -done)
    step = order[at + 1] if direction == "up" else order[at]
    if not step:
        return "No step was run"
    name = f"Step {step} ({revisions()[step]})"
    if lost and progress.is_committing:
        return f"{name} is done or not, as the connection was lost while it was committed; look before you run it again"
    if progress.is_torn:
        return f"{name} failed, and what it had done outside of its transaction remains"
    return f"{name} failed and left nothing behind"


def _explain(error: Exception) -> str:
    """What PostgreSQL said, and to which statement, or what Python said; all the step's own, so nothing is secret."""
    if not isinstance(error, DBAPIError):
        return f"{type(error).__name__}: {str(error).replace('\n', ' ')}"
    reason = _first_line(error)
    if isinstance(error.orig, psycopg.errors.LockNotAvailable):
        reason += f"; somebody held it for more than {LOCK_TIMEOUT}: run it again when the database is less busy"
    statement = " ".join((error.statement or "").split())
    return f"{reason}, in: {statement}" if statement else reason


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _unreadable(error: SyntaxError) -> MigrationError:
    return MigrationError(f"{Path(error.filename or 'a step').name} cannot be read: {error.msg} in line {error.lineno}")


@contextmanager
def _connection(dsn: Dsn) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(dsn.conninfo, connect_timeout=5)
    )
    try:
        connection = engine.connect()
    except OperationalError as error:
        # psycopg's own error says why, and `persistence.diagnosis` can read it.
        raise (error.orig or error) from None
    with connection:
        yield connection


def _config() -> Config:
    return Config(toml_file=Path(__file__).parent.parent / "pyproject.toml")
