"""The CPU of one statement in Python, through psycopg's cursor and through `Connection.fetch` (ADR 0016)."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any
from uuid import uuid4

from psycopg.rows import dict_row

from benchmarks import data, postgres
from benchmarks.options import Options
from benchmarks.tables import markdown
from persistence import task_lists, tasks
from persistence.postgres.connection import Connection
from persistence.postgres.statement import Statement

USERS, TASKS = 100, 100
_BATCH = 200

type _Run = Callable[[Statement, dict[str, Any]], Awaitable[object]]


def run(options: Options) -> dict[str, Any]:
    with postgres.temporary() as server:
        data.fill(server.dsn, USERS, TASKS)
        return asyncio.run(_measure(server.dsn.conninfo, batches=10 if options.quick else 50))


def table(result: dict[str, Any]) -> str:
    rows = [
        (name, f"{cost['cursor']:.0f} us", f"{cost['fetch']:.0f} us", f"{cost['cursor'] / cost['fetch']:.2f}")
        for name, cost in result.items()
    ]
    return markdown(("CPU of one statement in Python", "psycopg's cursor", "`Connection.fetch`", "ratio"), rows)


async def _measure(conninfo: str, batches: int) -> dict[str, Any]:
    newest = task_lists.list_statement(frozenset(), "created_at", descending=True, start="first")
    values = {"title": "Buy milk", "description": None, "status": "pending", "priority": "low", "due_date": None}
    user = {"user_id": data.user_id(1)}
    cases: dict[str, tuple[Statement, Callable[[], dict[str, Any]]]] = {
        "get one": (tasks.GET, lambda: user | {"task_id": data.task_id(1, 1)}),
        "list 20": (newest, lambda: user | {"limit": 21}),
        "create one": (tasks.CREATE, lambda: user | values | {"id": uuid4(), "tags": ["home", "urgent"]}),
    }
    async with await Connection.connect(conninfo, autocommit=True) as connection:

        async def by_cursor(statement: Statement, values: dict[str, Any]) -> object:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(queries[statement], values)
            return await cursor.fetchall()

        queries = {statement: _named(statement).encode() for statement, _ in cases.values()}
        ways: dict[str, _Run] = {"cursor": by_cursor, "fetch": connection.fetch}
        costs: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name in cases}
        for _ in range(batches):
            for name, (statement, bind) in cases.items():
                for way, run_one in ways.items():
                    started = time.process_time()
                    for _ in range(_BATCH):
                        await run_one(statement, bind())
                    costs[name][way].append((time.process_time() - started) / _BATCH * 1e6)
    return {name: {way: median(taken) for way, taken in by_way.items()} for name, by_way in costs.items()}


def _named(statement: Statement) -> str:
    """Returns the statement with parameters in the notation of psycopg's cursors."""
    return re.sub(r"\$(\d+)", lambda number: f"%({statement.parameters[int(number[1]) - 1]})s", statement.text)
