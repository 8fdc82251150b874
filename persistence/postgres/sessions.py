"""SQLAlchemy's engine on a pool: the connection of a session is checked out and in as that of a statement is."""

import asyncio
from functools import partial

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from persistence.postgres.connection import Connection
from persistence.postgres.pool import Pool


def engine_on(pool: Pool, timeout: float) -> AsyncEngine:
    """An engine whose sessions are ended when they have had their connection for so many seconds."""

    async def check_out() -> Connection:
        connection = await pool.check_out()
        try:
            await connection.set_autocommit(False)
        except BaseException:
            pool.check_in(connection)
            raise
        timer = asyncio.get_running_loop().call_later(timeout, pool.time_out, connection)
        connection.on_close = partial(check_in, timer)
        return connection

    async def check_in(timer: asyncio.TimerHandle, connection: Connection) -> None:
        timer.cancel()
        try:
            await connection.set_autocommit(True)
        except psycopg.Error:
            pass  # It is broken or still in a transaction: the pool sees that and closes it.
        finally:
            pool.check_in(connection)

    return create_async_engine(
        "postgresql+psycopg://", poolclass=NullPool, async_creator=check_out, hide_parameters=True
    )
