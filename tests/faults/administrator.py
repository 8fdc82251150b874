"""Administrative commands for a PostgreSQL server, from an event loop."""

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
"""The connections of the web server, in pg_stat_activity."""


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[Connection]:
    """A connection in autocommit, on which the settings of the database do not slow down or forbid anything."""
    options = "-c lock_timeout=0 -c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed"
    connection = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, application_name="administrator", connect_timeout=5, options=options
    )
    try:
        yield connection
    finally:
        with suppress(psycopg.Error):
            await connection.close()


async def query(connection: Connection, text: str, *values: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(text.encode(), values)).fetchall()


async def execute(connection: Connection, *commands: str) -> None:
    for command in commands:
        await connection.execute(command.encode())


async def configure(connection: Connection, *settings: str) -> None:
    """Alters settings of the whole server, `name = value` or `RESET name`, and reloads them."""
    for setting in settings:
        await execute(connection, f"ALTER SYSTEM {setting if setting.startswith('RESET') else f'SET {setting}'}")
    await execute(connection, "SELECT pg_reload_conf()")


async def terminate(connection: Connection, condition: str = "true", number: int = 1000) -> int:
    """Terminates up to `number` random connections of the web server that meet the condition, and counts them."""
    chosen = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND {condition} ORDER BY random() LIMIT %s"
    done = await query(connection, f"SELECT pg_terminate_backend(pid) FROM ({chosen}) AS chosen", number)
    return sum(is_done for (is_done,) in done)


async def wait_for_row(connection: Connection, text: str, timeout: float = 30.0) -> bool:
    """Waits until the query has a row, in a transaction too. Returns False after the timeout."""
    end = monotonic() + timeout
    while monotonic() < end:
        # A transaction keeps the statistics that it read first.
        await execute(connection, "SELECT pg_stat_clear_snapshot()")
        if await query(connection, text):
            return True
        await asyncio.sleep(POLL)
    return False


async def wait_until_accepting(conninfo: str, timeout: float = 60.0) -> None:
    """Waits until PostgreSQL accepts connections."""
    async with asyncio.timeout(timeout):
        while True:
            with suppress(psycopg.OperationalError):
                async with connected(conninfo):
                    return
            await asyncio.sleep(POLL)


async def wait_until_closed(connection: Connection) -> None:
    """Waits until the server has closed this connection."""
    with suppress(psycopg.OperationalError):
        while True:
            await query(connection, "SELECT 1")
            await asyncio.sleep(POLL)
