"""Administrative commands for a PostgreSQL server, from an event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import psycopg

from persistence.postgres.opening import APPLICATION_NAME

POLL = 0.003
OURS = f"application_name = '{APPLICATION_NAME}' AND backend_type = 'client backend'"
"""The connections of the web server, in pg_stat_activity."""


class Administrator:
    def __init__(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        self.transaction = connection.transaction
        self._connection = connection

    async def query(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(text.encode(), values)).fetchall()

    async def execute(self, *commands: str) -> None:
        for command in commands:
            await self._connection.execute(command.encode())

    async def configure(self, *settings: str) -> None:
        """Alters settings of the whole server, `name = value` or `RESET name`, and reloads them."""
        for setting in settings:
            await self.execute(f"ALTER SYSTEM {setting if setting.startswith('RESET') else f'SET {setting}'}")
        await self.execute("SELECT pg_reload_conf()")

    async def terminate(self, condition: str = "true", number: int = 1000) -> int:
        """Terminates up to `number` random connections of the web server that meet the condition, and counts them."""
        chosen = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND {condition} ORDER BY random() LIMIT %s"
        done = await self.query(f"SELECT pg_terminate_backend(pid) FROM ({chosen}) AS chosen", number)
        return sum(is_done for (is_done,) in done)

    async def wait_for_row(self, text: str, timeout: float = 30.0) -> bool:
        """Waits until the query has a row, in a transaction too. Returns False after the timeout."""
        end = monotonic() + timeout
        while monotonic() < end:
            # A transaction keeps the statistics that it read first.
            await self.execute("SELECT pg_stat_clear_snapshot()")
            if await self.query(text):
                return True
            await asyncio.sleep(POLL)
        return False

    async def wait_until_closed(self) -> None:
        """Waits until PostgreSQL has closed this connection."""
        with suppress(psycopg.OperationalError):
            while True:
                await self.query("SELECT 1")
                await asyncio.sleep(POLL)


@asynccontextmanager
async def administrator(conninfo: str) -> AsyncIterator[Administrator]:
    """Connects in autocommit, so that the settings of the database do not slow down or forbid any command."""
    options = "-c lock_timeout=0 -c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed"
    connection = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, application_name="administrator", connect_timeout=5, options=options
    )
    try:
        yield Administrator(connection)
    finally:
        with suppress(psycopg.Error):
            await connection.close()


async def wait_until_accepting(conninfo: str) -> None:
    """Waits until PostgreSQL accepts connections."""
    async with asyncio.timeout(60):
        while True:
            with suppress(psycopg.OperationalError):
                async with administrator(conninfo):
                    return
            await asyncio.sleep(POLL)
