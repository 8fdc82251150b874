"""The project's pool beside `psycopg_pool`: CPU, idle connections that have died, and an outage (ADR 0002)."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any, ClassVar, Self, override

import psycopg
from psycopg_pool import AsyncConnectionPool

from benchmarks import data, postgres
from benchmarks.options import Options
from benchmarks.tables import markdown
from persistence import tasks
from persistence.postgres.connection import Connection
from persistence.postgres.errors import Unavailable
from persistence.postgres.options import PoolLimits
from persistence.postgres.pool import CHECK_AFTER_IDLE, Pool

SIZES = {"min_size": 5, "max_size": 20}
TIMEOUT, OUTAGE, INTERVAL = 5.0, 8.0, 0.02
"""Seconds that a caller waits for a connection, that the database is stopped for, and between two callers."""
VALUES = {"user_id": data.user_id(1), "task_id": data.task_id(1, 1)}
_BATCH = 500
_KILL_ALL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname > ''"
)

type _Run = Callable[[], Awaitable[object]]
type _Pool = Callable[[str], AbstractAsyncContextManager[_Run]]


class _Counted(Connection):
    """Counts the attempts to connect: both pools connect by this method."""

    attempts: ClassVar[int] = 0

    @override
    @classmethod
    async def connect(cls, *arguments: Any, **options: Any) -> Self:
        _Counted.attempts += 1
        connection = await super().connect(*arguments, autocommit=True, prepare_threshold=None, **options)
        connection.idle_since, connection.expires_at = time.monotonic(), time.monotonic() + 3600
        return connection


@asynccontextmanager
async def _ours(conninfo: str) -> AsyncIterator[_Run]:
    async def run_one() -> None:
        connection = await pool.check_out(TIMEOUT)
        try:
            await connection.fetch(tasks.GET, VALUES)
        finally:
            pool.check_in(connection)

    pool = Pool(lambda: _Counted.connect(conninfo), PoolLimits(**SIZES))
    pool.open()
    yield run_one
    await pool.close()


@asynccontextmanager
async def _theirs(conninfo: str, *, is_tuned: bool = False) -> AsyncIterator[_Run]:
    """Checks a connection as the project's pool does.

    Tuned, it checks all idle connections after a failed check, and an attempt to connect ends at once: that ends the
    wait of all callers, and the next caller starts a new attempt.
    """

    async def check(connection: _Counted) -> None:
        if connection.is_readable:
            # The pool keeps a connection that fails its check and still looks idle.
            await connection.close()
            if is_tuned:
                sweeps.append(asyncio.ensure_future(pool.check()))
            raise psycopg.OperationalError("It died while idle.")
        if time.monotonic() - connection.idle_since > CHECK_AFTER_IDLE:
            await AsyncConnectionPool.check_connection(connection)

    async def fail_waiting(pool: Any) -> None:
        for caller in () if pool.get_stats()["pool_available"] else waiting:
            caller.reschedule(0)
        waiting.clear()

    async def check_out_or_fail(timeout: float) -> Any:
        async with asyncio.timeout(None) as caller:
            waiting.add(caller)
            try:
                return await pool.getconn(timeout)
            finally:
                waiting.discard(caller)

    async def run_one() -> None:
        connection = await check_out(TIMEOUT)
        try:
            await connection.fetch(tasks.GET, VALUES)
        finally:
            connection.idle_since = time.monotonic()
            await pool.putconn(connection)

    sweeps: list[asyncio.Future[None]] = []
    waiting: set[asyncio.Timeout] = set()
    tuning = {"reconnect_timeout": 0.0, "reconnect_failed": fail_waiting} if is_tuned else {}
    pool = AsyncConnectionPool(conninfo, connection_class=_Counted, check=check, open=False, **SIZES, **tuning)
    check_out = check_out_or_fail if is_tuned else pool.getconn
    await pool.open(wait=True)
    yield run_one
    await pool.close()


POOLS: dict[str, _Pool] = {
    "this project": _ours,
    "psycopg_pool": _theirs,
    "psycopg_pool, tuned": lambda conninfo: _theirs(conninfo, is_tuned=True),
}


def run(options: Options) -> dict[str, Any]:
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    with postgres.temporary() as database:
        data.fill(database.dsn, users=10, tasks=10)
        return asyncio.run(_measure(database, batches=10 if options.quick else 100))


def table(result: dict[str, Any]) -> str:
    figures = next(iter(result.values()))
    rows = [(name, *(f"{each[name]:,.2f}".removesuffix(".00") for each in result.values())) for name in figures]
    return markdown(("Measured", *result), rows)


async def _measure(database: postgres.Postgres, batches: int) -> dict[str, dict[str, float]]:
    found = await _cpu(database.dsn.conninfo, batches)
    for name, pool in POOLS.items():
        for callers in (1, 10):
            found[name] |= await _after_all_died(pool, database.dsn.conninfo, callers)
        found[name] |= await _outage(pool, database)
    return found


async def _cpu(conninfo: str, batches: int) -> dict[str, dict[str, float]]:
    """Takes turns between the pools, so that what else the machine does falls on all."""
    async with await Connection.connect(conninfo, autocommit=True) as connection, AsyncExitStack() as stack:
        runs: dict[str, _Run] = {"none": lambda: connection.fetch(tasks.GET, VALUES)}
        runs |= {name: await stack.enter_async_context(pool(conninfo)) for name, pool in POOLS.items()}
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(batches):
            # In another order each time, because a batch leaves the processor's caches to the next one.
            for name in random.sample(list(runs), len(runs)):
                started = time.process_time()
                for _ in range(_BATCH):
                    await runs[name]()
                taken[name].append((time.process_time() - started) / _BATCH * 1e6)
    cost = {name: median(times) for name, times in taken.items()}
    return {n: {"CPU of a statement, us": cost[n], "over that without a pool": cost[n] / cost["none"]} for n in POOLS}


async def _after_all_died(pool: _Pool, conninfo: str, callers: int) -> dict[str, float]:
    async with pool(conninfo) as run_one:
        await asyncio.gather(*(run_one() for _ in range(SIZES["min_size"])))
        async with await psycopg.AsyncConnection.connect(conninfo) as admin:
            await admin.execute(_KILL_ALL)
        found = await asyncio.gather(*(_call(run_one) for _ in range(callers)))
    title, slowest = f"all idle connections died, callers: {callers}", max(left - came for came, left, _ in found)
    return {f"{title}; failed": sum(not served for *_, served in found), f"{title}; slowest, ms": round(slowest * 1e3)}


async def _outage(pool: _Pool, database: postgres.Postgres) -> dict[str, float]:
    async with pool(database.dsn.conninfo) as run_one, asyncio.TaskGroup() as group:
        stopping = asyncio.create_task(asyncio.to_thread(database.server.stop))
        stopped, before, starting, calls = time.monotonic(), _Counted.attempts, None, []
        while (now := time.monotonic()) < stopped + 2 * OUTAGE + TIMEOUT:
            calls.append(group.create_task(_call(run_one)))
            await asyncio.sleep(INTERVAL)
            if not starting and now > stopped + OUTAGE and stopping.done():
                attempts = (_Counted.attempts - before) / (now - stopped)
                started, starting = now, group.create_task(asyncio.to_thread(database.server.start))
    found = [call.result() for call in calls]
    waits = [left - came for came, left, served in found if not served]
    first = min(left for _, left, served in found if served and left > started)
    return {
        "outage of 8 s, 50 callers a second; failed": len(waits),
        "median wait of a caller that failed, ms": round(median(waits) * 1e3),
        "longest wait of a caller that failed, ms": round(max(waits) * 1e3),
        "attempts to connect a second": attempts,
        "first caller served after the order to start, ms": round((first - started) * 1e3),
        "failed after that": sum(left > first for _, left, served in found if not served),
    }


async def _call(run_one: _Run) -> tuple[float, float, bool]:
    """Returns when the caller came, when it left, and that it was served."""
    came = time.monotonic()
    try:
        await run_one()
    except (psycopg.Error, TimeoutError, Unavailable):
        return came, time.monotonic(), False
    return came, time.monotonic(), True
