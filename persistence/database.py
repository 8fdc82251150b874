"""The door to the database: one statement in one round trip, or a session for work that needs more than one."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any, NoReturn

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.connection import Connection
from persistence.dsn import Dsn
from persistence.errors import DeadlineExceeded, InvalidValue, OutcomeUnknown, Unavailable, rule_for, translate
from persistence.options import DatabaseOptions, PoolLimits
from persistence.pool import Pool, retirement
from persistence.retries import Retries
from persistence.sql_log import LoggingConnection
from persistence.statement import Statement

APPLICATION_NAME = "todo"
"""How our connections are called in `pg_stat_activity`."""
RENEWED_AFTER = 1.0
"""Seconds that a connection lives at least before it is replaced because its server can only be read."""
PROBES_APART = 5
"""Size of a pool from which on one of its connections is kept for probes."""

_NEVER = 3600
"""Seconds."""


class Database:
    """A pool and an engine on it; made by `open_database` and good for that event loop only.

    `probes` is the same database through a connection that no load can occupy, if the pool is large enough for that.
    """

    def __init__(self, pool: Pool, engine: AsyncEngine, options: DatabaseOptions, probe_pool: Pool) -> None:
        self.pool = pool
        self.probes = self if pool is probe_pool else Database(probe_pool, engine, options, probe_pool)
        self._engine = engine
        self._timeout = options.statement_timeout
        self._retries = Retries()

    def cede_connection(self) -> bool:
        """Gives one up for a process that has none, but not the last of those for statements; tells whether it did."""
        for_probes = self.probes is not self and self.probes.pool.cede(down_to=0)
        return for_probes or self.pool.cede(down_to=1)

    def time_left(self, since: float) -> float:
        """Seconds for a second statement of a request whose first began then, on the monotonic clock."""
        return max(0.0, self._timeout - (monotonic() - since))

    async def rows[Row: Mapping[str, Any]](
        self, statement: Statement[Row], values: Mapping[str, Any], timeout: float | None = None
    ) -> list[Row]:
        """Runs one statement in autocommit and returns all its rows. One round trip.

        It is tried again if it failed in passing and is a read or cannot have happened (`persistence/errors.py`).
        Raises the errors of that module: within `timeout` seconds (the options' by default) at the latest.
        """
        timeout = self._timeout if timeout is None else timeout
        deadline = monotonic() + timeout
        attempts = 0
        while True:
            attempts += 1
            connection = await self.pool.acquire(timeout)
            timer = asyncio.get_running_loop().call_later(
                max(0.0, deadline - monotonic()), self.pool.give_up, connection
            )
            try:
                return await connection.fetch(statement, statement.bind(values))  # type: ignore[return-value] # vouched
            except UnicodeEncodeError as error:
                raise InvalidValue("A text has a lone surrogate, which cannot be stored.") from error
            except psycopg.Error as error:
                failure = _failure(error, statement, connection, is_late=monotonic() >= deadline)
            finally:
                timer.cancel()
                self.pool.release(connection)
            if not await self._retries.wait(attempts, deadline):
                raise failure
            timeout = deadline - monotonic()

    async def row[Row: Mapping[str, Any]](
        self, statement: Statement[Row], values: Mapping[str, Any], timeout: float | None = None
    ) -> Row | None:
        """The first row, or None; otherwise as `rows`."""
        rows = await self.rows(statement, values, timeout)
        return rows[0] if rows else None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session of its own in one transaction: committed on success, rolled back on error, always given back (D19).

        It is cut off when it has had its connection for as long as a statement may take. Raises the errors of
        `persistence.errors`; objects stay readable after the commit.
        """
        try:
            async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg.Error):
                raise
            _raise_translated(error.orig)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A bare psycopg connection in a transaction, for what SQLAlchemy cannot do: COPY. Otherwise as `session`."""
        connection = await self.pool.acquire()
        try:
            async with connection.transaction():
                yield connection
        except psycopg.Error as error:
            _raise_translated(error)
        finally:
            self.pool.release(connection)


@asynccontextmanager
async def open_database(
    dsn: Dsn,
    options: DatabaseOptions | None = None,
    *,
    at_once: bool = False,
    on_starved: Callable[[], None] = lambda: None,
) -> AsyncIterator[Database]:
    """Opens the pool, with its first connection made, and closes everything in the end.

    Raises `psycopg.OperationalError` when the first connection fails: no retry here, see `persistence.startup`. With
    `at_once` it waits for no connection: while there is none, statements raise `Unavailable`. `on_starved` is called
    again and again while the pool has no connection because the server has none left.
    """
    options = options or DatabaseOptions()
    # libpq sends this to the server as a start-up parameter, which every pooler lets through, as it does not `options`.
    os.environ["PGTZ"] = "UTC"

    kind = LoggingConnection if options.log_sql else Connection

    async def connect() -> Connection:
        try:
            async with asyncio.timeout(options.connect_timeout):
                connection = await kind.connect(
                    dsn.conninfo,
                    autocommit=True,
                    # A cursor that prepares, as in a session, drops all that is prepared at a rollback.
                    prepare_threshold=None,
                    # Past its own timeout psycopg leaves the socket to the garbage collector; cancelled, it closes it.
                    connect_timeout=_NEVER,
                    application_name=APPLICATION_NAME,
                )
        except TimeoutError:
            raise psycopg.errors.ConnectionTimeout("connection timeout expired") from None
        connection.behind_pooler = dsn.is_pooled or options.behind_pooler
        connection.opened_at = monotonic()
        connection.retire_at = retirement(options.limits)
        return connection

    async def lend_to_session() -> Connection:
        connection = await pool.acquire()
        try:
            await connection.set_autocommit(False)
        except BaseException:
            pool.release(connection)
            raise
        connection.lender = pool
        connection.cut_off = asyncio.get_running_loop().call_later(options.statement_timeout, pool.give_up, connection)
        return connection

    limits, probe_limits = _shared_out(options.limits)
    pool = Pool(connect, limits, on_starved)
    probe_pool = Pool(connect, probe_limits) if probe_limits else pool
    engine = create_async_engine(
        "postgresql+psycopg://", poolclass=NullPool, async_creator=lend_to_session, hide_parameters=True
    )
    await pool.open(at_once=at_once)
    if probe_limits:
        await probe_pool.open(at_once=True)
    try:
        yield Database(pool, engine, options, probe_pool)
    finally:
        await engine.dispose()
        await probe_pool.close()
        await pool.close()


def _shared_out(limits: PoolLimits) -> tuple[PoolLimits, PoolLimits | None]:
    """The limits of the pool for everything and of that for probes, if there is one: no more connections in all."""
    if limits.max_size < PROBES_APART:
        return limits, None
    most = limits.max_size - 1
    return (
        replace(limits, max_size=most, min_size=min(limits.min_size, most)),
        replace(limits, max_size=1, min_size=0),
    )


def _failure(error: psycopg.Error, statement: Statement[Any], connection: Connection, *, is_late: bool) -> Exception:
    """What to raise if the statement is not tried again; raises it at once if that would not help."""
    rule = rule_for(error)
    if rule and rule.is_renewed and monotonic() > connection.opened_at + RENEWED_AFTER:
        connection.doomed = True
    nothing_happened = statement.reads or connection.has_rolled_back(error)
    failure = translate(error, nothing_happened=nothing_happened)
    if is_late and isinstance(failure, Unavailable):
        failure = (
            DeadlineExceeded("The database did not answer in time.")
            if nothing_happened
            else OutcomeUnknown("The database did not answer in time, so the change may have been made, or not.")
        )
    failure.__cause__ = None if failure is error else error
    if is_late or not (rule and rule.is_retried) or isinstance(failure, OutcomeUnknown):
        raise failure
    return failure


def _raise_translated(error: psycopg.Error) -> NoReturn:
    # Of a transaction that lost its connection nobody knows whether it was committed.
    translated = translate(error, nothing_happened=not (error.sqlstate or "08").startswith(("08", "57P")))
    raise translated from (None if translated is error else error)
