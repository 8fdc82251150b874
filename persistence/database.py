"""The door to the database: one statement in one round trip, or a session for work that needs more than one."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NoReturn

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.connection import Connection
from persistence.dsn import Dsn
from persistence.errors import DeadlineExceeded, InvalidValue, translate
from persistence.options import DatabaseOptions
from persistence.pool import Pool, retirement
from persistence.sql_log import LoggingConnection
from persistence.statement import Statement

APPLICATION_NAME = "todo"
"""How our connections are called in `pg_stat_activity`."""


class Database:
    """A pool and an engine on it; made by `open_database` and good for that event loop only."""

    def __init__(self, pool: Pool, engine: AsyncEngine, options: DatabaseOptions) -> None:
        self.pool = pool
        self._engine = engine
        self._timeout = options.statement_timeout

    async def rows[Row: Mapping[str, Any]](
        self, statement: Statement[Row], values: Mapping[str, Any], timeout: float | None = None
    ) -> list[Row]:
        """Runs one statement in autocommit and returns all its rows. One round trip.

        Raises the errors of `persistence.errors`: within `timeout` seconds (the options' by default) at the latest.
        """
        timeout = self._timeout if timeout is None else timeout
        deadline = monotonic() + timeout
        connection = await self.pool.acquire(timeout)
        timer = asyncio.get_running_loop().call_later(max(0.0, deadline - monotonic()), self.pool.give_up, connection)
        try:
            return await connection.fetch(statement, statement.bind(values))  # type: ignore[return-value] # it vouches
        except UnicodeEncodeError as error:
            raise InvalidValue("A text has a lone surrogate, which cannot be stored.") from error
        except psycopg.Error as error:
            if monotonic() >= deadline:
                raise DeadlineExceeded("The database did not answer in time.") from error
            _raise_translated(error)
        finally:
            timer.cancel()
            self.pool.release(connection)

    async def row[Row: Mapping[str, Any]](
        self, statement: Statement[Row], values: Mapping[str, Any], timeout: float | None = None
    ) -> Row | None:
        """The first row, or None; otherwise as `rows`."""
        rows = await self.rows(statement, values, timeout)
        return rows[0] if rows else None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session of its own in one transaction: committed on success, rolled back on error, always given back (D19).

        Raises the errors of `persistence.errors`; objects stay readable after the commit.
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
async def open_database(dsn: Dsn, options: DatabaseOptions | None = None) -> AsyncIterator[Database]:
    """Opens the pool, with its first connection made, and closes everything in the end.

    Raises `psycopg.OperationalError` when the first connection fails: no retry here, see `persistence.startup`.
    """
    options = options or DatabaseOptions()
    # libpq sends this to the server as a start-up parameter, which every pooler lets through, as it does not `options`.
    os.environ["PGTZ"] = "UTC"

    kind = LoggingConnection if options.log_sql else Connection

    async def connect() -> Connection:
        connection = await kind.connect(
            dsn.conninfo,
            autocommit=True,
            # A cursor that prepares, as in a session, drops all that is prepared when a transaction is rolled back.
            prepare_threshold=None,
            connect_timeout=max(2, round(options.connect_timeout)),
            application_name=APPLICATION_NAME,
        )
        connection._pool = pool  # noqa: SLF001 - where psycopg looks for whom `close()` gives back to
        connection.prepares = not (dsn.is_pooled or options.behind_pooler)
        connection.retire_at = retirement(options.limits)
        return connection

    async def lend_to_session() -> Connection:
        connection = await pool.acquire()
        try:
            await connection.set_autocommit(False)
        except BaseException:
            pool.release(connection)
            raise
        return connection

    pool = Pool(connect, options.limits)
    engine = create_async_engine(
        "postgresql+psycopg://", poolclass=NullPool, async_creator=lend_to_session, hide_parameters=True
    )
    await pool.open()
    try:
        yield Database(pool, engine, options)
    finally:
        await engine.dispose()
        await pool.close()


def _raise_translated(error: psycopg.Error) -> NoReturn:
    translated = translate(error)
    raise translated from (None if translated is error else error)
