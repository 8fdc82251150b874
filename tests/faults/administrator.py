"""What an administrator does to a PostgreSQL, from an event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import psycopg

from persistence.postgres.database import APPLICATION_NAME

type Connection = psycopg.AsyncConnection[tuple[Any, ...]]

POLL = 0.003
OURS = f"application_name = '{APPLICATION_NAME}' AND backend_type = 'client backend'"
"""The server's connections, in pg_stat_activity."""


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[Connection]:
    """A connection in autocommit, which the settings of the database do not slow down or forbid anything."""
    options = "-c lock_timeout=0 -c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed"
    connection = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, application_name="administrator", connect_timeout=5, options=options
    )
    try:
        yield connection
    finally:
        with suppress(psycopg.Error):
            await connection.close()


async def ask(connection: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), values)).fetchall()


async def order(connection: Connection, *commands: str) -> None:
    for command in commands:
        await connection.execute(command.encode())


async def configure(connection: Connection, *settings: str) -> None:
    """Alters settings of the whole server, `name = value` or `RESET name`, and lets them take effect."""
    for setting in settings:
        await order(connection, f"ALTER SYSTEM {setting if setting.startswith('RESET') else f'SET {setting}'}")
    await order(connection, "SELECT pg_reload_conf()")


async def terminate(connection: Connection, condition: str = "true", number: int = 1000) -> int:
    """Ends so many of the server's connections that meet the condition, chosen at random, and says how many."""
    victims = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND {condition} ORDER BY random() LIMIT %s"
    return sum(
        done for (done,) in await ask(connection, f"SELECT pg_terminate_backend(pid) FROM ({victims}) v", number)
    )


async def until(connection: Connection, query: str, timeout: float = 30.0) -> bool:
    """Waits until the query has a row, also in a transaction, and says whether it had in time."""
    started = monotonic()
    while True:
        # A transaction sees what its first look at statistics saw.
        await order(connection, "SELECT pg_stat_clear_snapshot()")
        if await ask(connection, query):
            return True
        if monotonic() > started + timeout:
            return False
        await asyncio.sleep(POLL)


async def accepting(conninfo: str, timeout: float = 60.0) -> float:
    """Waits until PostgreSQL takes connections, and says how long that took."""
    started = monotonic()
    while True:
        try:
            async with connected(conninfo):
                return monotonic() - started
        except psycopg.OperationalError as error:
            if monotonic() - started > timeout:
                raise TimeoutError(f"PostgreSQL takes no connection within {timeout:g} s") from error
        await asyncio.sleep(POLL)


async def gone(connection: Connection) -> None:
    """Waits until the server has ended this connection."""
    with suppress(psycopg.OperationalError):
        while True:
            await ask(connection, "SELECT 1")
            await asyncio.sleep(POLL)
