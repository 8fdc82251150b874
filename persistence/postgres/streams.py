"""The rows of one statement as a caller takes them, all of one moment: a cursor of the server in a transaction."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from persistence.postgres.connection import Connection
from persistence.postgres.costs import Counts
from persistence.postgres.errors import translate
from persistence.postgres.pool import Pool
from persistence.postgres.statement import Statement

ROWS_AT_ONCE = 200
"""Rows of one round trip, which are in memory at once: some 100 KB of tasks."""
END_TIMEOUT = 1.0
"""Seconds for the server to end the transaction, after which the connection is aborted."""

_BEGIN = Statement.script("begin", "BEGIN READ ONLY")
_ROLLBACK = Statement.script("rollback", "ROLLBACK")


async def batches(
    pool: Pool, statement: Statement, values: Mapping[str, Any], timeout: float, counts: Counts
) -> AsyncGenerator[list[dict[str, Any]]]:
    """The rows, `ROWS_AT_ONCE` at a time; each step in the database may take `timeout` seconds.

    The connection goes back when the generator ends or is closed, which ends the statement as well. Raises the errors
    of `persistence.postgres.errors`, and runs nothing again.
    """
    connection = await pool.check_out(timeout)

    async def run(step: Statement, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        timer = asyncio.get_running_loop().call_later(timeout, pool.time_out, connection)
        began = monotonic()
        try:
            return await connection.fetch(step, step.bind(values))
        except psycopg.Error as error:
            failure = translate(error, nothing_happened=True)
            raise failure from (None if failure is error else error)
        finally:
            timer.cancel()
            counts.add_operation(statement.name, monotonic() - began)

    fetch = Statement.script(statement.name, f"FETCH {ROWS_AT_ONCE} FROM rows", columns=statement.columns)
    try:
        await run(_BEGIN, {})
        await run(statement.as_cursor("rows"), values)
        while rows := await run(fetch, {}):
            yield rows
            if len(rows) < ROWS_AT_ONCE:
                break
    finally:
        await _end(connection)
        pool.check_in(connection)


async def _end(connection: Connection) -> None:
    """Ends the transaction, unless the server is still busy with it, which the pool sees to."""
    if connection.pgconn.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        return
    timer = asyncio.get_running_loop().call_later(END_TIMEOUT, connection.abort)
    try:
        with suppress(psycopg.Error):
            await connection.fetch(_ROLLBACK, {})
    finally:
        timer.cancel()
