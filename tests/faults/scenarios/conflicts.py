"""PostgreSQL ends a statement because of another one: a deadlock, a serialization failure, a lock timeout."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg

from tests.faults.administrator import OURS, Administrator
from tests.faults.clients import Load
from tests.faults.environment import environment
from tests.faults.matrix import Result, Run, scenario
from tests.support.databases import SERVER

GOAL = "retried where that is safe, else 503; never a 500"
SOME_TASKS = "SELECT id FROM tasks ORDER BY random() LIMIT 40 FOR UPDATE"
TOUCH_SOME = """
    UPDATE tasks SET priority = priority WHERE id IN (SELECT id FROM tasks ORDER BY random() LIMIT 20)
"""
WAITING = f"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {OURS}"
ENDED = ("deadlock detected", "could not serialize", "due to lock timeout")


@asynccontextmanager
async def _conflicted(run: Run, result: Result, setting: str) -> AsyncIterator[tuple[Administrator, Load]]:
    """Runs clients, whose sessions have this setting, beside a connection for the other statements."""
    async with environment(run, result) as env:
        async with env.administrator() as other:
            await other.execute(f"ALTER ROLE {SERVER} IN DATABASE todo SET {setting}")
            await other.terminate()
            async with env.load() as found:
                await found.next_success(writes_only=True)
                yield other, found
        log = await asyncio.to_thread((env.postgres.folder / "log").read_text)
        ended = sum(log.count(text) for text in ENDED)
        result.expect(ended > 0, "PostgreSQL ended no statement")
        result.figures["statements ended"] = f"{ended:,} in {len(found.samples):,} requests"


@scenario("deadlock", goal=GOAL)
async def deadlock(run: Run, result: Result) -> None:
    """A transaction locks rows that statements of the server wait for, and then the table, which these have locked.

    Its `deadlock_timeout` is longer, so that PostgreSQL ends one of the statements.
    """
    async with _conflicted(run, result, "deadlock_timeout = '50ms'") as (other, found):
        before = await _deadlocks(other)
        while result.rounds < run.rounds(200, 10):
            with suppress(psycopg.errors.DeadlockDetected):
                async with other.transaction():
                    await other.execute("SET LOCAL deadlock_timeout = '10s'")
                    await other.query(SOME_TASKS)
                    await other.wait_for_row(WAITING, timeout=0.3)
                    await other.execute("LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE")
            await found.next_success(writes_only=True)
            result.rounds = await _deadlocks(other) - before


async def _deadlocks(connection: Administrator) -> int:
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    [(number,)] = await connection.query("SELECT deadlocks FROM pg_stat_database WHERE datname = 'todo'")
    return int(number)


@scenario("serialization failure", goal=GOAL)
async def serialization(run: Run, result: Result) -> None:
    """All transactions are serializable, and another one reads everything and changes the same tasks."""
    async with _conflicted(run, result, "default_transaction_isolation = 'serializable'") as (other, found):
        while result.rounds < run.rounds(1000, 60):
            with suppress(psycopg.errors.SerializationFailure):
                async with other.transaction():
                    await other.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    await other.query("SELECT count(*) FROM tasks")
                    await other.execute(TOUCH_SOME)
                    await asyncio.sleep(random.uniform(0, 0.02))
            result.rounds += 1
            await asyncio.sleep(random.uniform(0, 0.01))
        await found.next_success(writes_only=True)


@scenario("lock timeout", goal=GOAL)
async def lock_timeout(run: Run, result: Result) -> None:
    """Another transaction locks tasks, or the table, several times as long as `lock_timeout`."""
    locks = (SOME_TASKS, "LOCK TABLE tasks IN SHARE MODE", "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
    async with _conflicted(run, result, "lock_timeout = '20ms'") as (other, found):
        while result.rounds < run.rounds(300, 20):
            async with other.transaction():
                await other.execute(random.choice(locks))
                await asyncio.sleep(random.uniform(0.02, 0.2))
            result.rounds += 1
            result.recoveries.append(await found.next_success(writes_only=True))
