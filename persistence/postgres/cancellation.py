"""The end of a statement that nobody awaits any more: its caller goes on, and the server is made to end it.

A cancel request is a connection of its own. It takes two round trips, more with TLS, and a busy server is slow to take
it. Until the request has been seen to work, the connection keeps its place in the pool: otherwise each deadline would
add a connection to those that the server is still busy with.
"""

import asyncio
from contextlib import suppress

import psycopg

from persistence.postgres.connection import Connection

CANCEL_TIMEOUT = 0.2
"""Seconds for the server to cancel a statement, after which its caller waits no longer."""
CANCEL_REQUEST_TIMEOUT = 2.0
"""Seconds that a cancel request may take when no caller waits for it; four round trips of 400 ms fit in."""
CANCEL_REQUESTS = 2
"""Requests, after which the connection is closed and its place is free, as the server cannot be reached."""
CANCEL_PAUSE = 1.0
"""Seconds that the server has for its answer after each of them."""


async def cancel_and_release(connection: Connection, timeout: float) -> None:
    """Asks the server to cancel the statement, and ends the wait of its caller after so many seconds.

    If the server is that fast, its answer tells the caller that a write has not happened.
    """
    with suppress(psycopg.Error, OSError, TimeoutError):
        async with asyncio.timeout(timeout):
            await connection.cancel_safe()
            await asyncio.sleep(timeout)
    connection.end_wait()


async def finish(connection: Connection) -> None:
    """Returns when the server has ended what was left behind, or the connection is lost.

    Gives up after `CANCEL_REQUESTS`, which is after six seconds at most.
    """
    cancelling = asyncio.create_task(_cancel_repeatedly(connection))
    cancelling.add_done_callback(lambda _: connection.abort())
    try:
        with suppress(psycopg.Error):
            await connection.drop_answer()
    finally:
        cancelling.cancel()


async def _cancel_repeatedly(connection: Connection) -> None:
    for _ in range(CANCEL_REQUESTS):
        with suppress(psycopg.Error, OSError):
            await connection.cancel_safe(timeout=CANCEL_REQUEST_TIMEOUT)
        await asyncio.sleep(CANCEL_PAUSE)
