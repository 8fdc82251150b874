"""PostgreSQL gives a statement up for the sake of another one: a deadlock, a serialization failure, a lock."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg

from tests.faults.administrator import OURS, Connection, ask, connected, order, terminate, until
from tests.faults.bed import Bed, bed
from tests.faults.clients import Load, load
from tests.faults.history import History
from tests.faults.matrix import Result, Stage, fault
from tests.faults.verdict import conclude

GOAL = "retried where that is safe, else 503; never a 500"
SOME_TASKS = "SELECT id FROM tasks ORDER BY random() LIMIT 40 FOR UPDATE"
TOUCH_SOME = """
    UPDATE tasks SET priority = priority WHERE id IN (SELECT id FROM tasks ORDER BY random() LIMIT 20)
"""
WAITING = f"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND {OURS}"


@fault("deadlock", goal=GOAL)
async def deadlock(stage: Stage) -> Result:
    """A transaction has rows that the server's statements wait for, and then wants the table, of which each has a part.

    It is patient, so that one of the statements is given up.
    """
    result = Result()
    async with (
        _conflicted(stage, result, "deadlock_timeout = '50ms'") as (made, found),
        connected(made.conninfo) as other,
    ):
        before = await _deadlocks(other)
        while result.rounds < stage.rounds(200, 10):
            with suppress(psycopg.errors.DeadlockDetected):
                async with other.transaction():
                    await order(other, "SET LOCAL deadlock_timeout = '10s'")
                    await ask(other, SOME_TASKS)
                    await until(other, WAITING, timeout=0.3)
                    await order(other, "LOCK TABLE tasks IN SHARE ROW EXCLUSIVE MODE")
            await found.next_success(writes_only=True)
            result.rounds = await _deadlocks(other) - before
    return result


async def _deadlocks(connection: Connection) -> int:
    await order(connection, "SELECT pg_stat_clear_snapshot()")
    [(number,)] = await ask(connection, "SELECT deadlocks FROM pg_stat_database WHERE datname = 'todo'")
    return int(number)


@fault("serialization failure", goal=GOAL)
async def serialization(stage: Stage) -> Result:
    """All transactions are serializable, and others read everything and change the same tasks."""
    result = Result()
    async with (
        _conflicted(stage, result, "default_transaction_isolation = 'serializable'") as (made, found),
        connected(made.conninfo) as other,
    ):
        while result.rounds < stage.rounds(1000, 60):
            with suppress(psycopg.errors.SerializationFailure):
                async with other.transaction():
                    await order(other, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    await ask(other, "SELECT count(*) FROM tasks")
                    await order(other, TOUCH_SOME)
                    await asyncio.sleep(random.uniform(0, 0.02))
            result.rounds += 1
            await asyncio.sleep(random.uniform(0, 0.01))
        await found.next_success(writes_only=True)
    return result


@fault("lock timeout", goal=GOAL)
async def lock_timeout(stage: Stage) -> Result:
    """Others hold tasks, or the table, several times as long as a statement may wait for a lock."""
    result = Result()
    async with _conflicted(stage, result, "lock_timeout = '20ms'") as (made, found), connected(made.conninfo) as other:
        holds = (SOME_TASKS, "LOCK TABLE tasks IN SHARE MODE", "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        while result.rounds < stage.rounds(300, 20):
            async with other.transaction():
                await order(other, random.choice(holds))
                await asyncio.sleep(random.uniform(0.02, 0.2))
            result.rounds += 1
            result.recoveries.append(await found.next_success(writes_only=True))
    return result


@asynccontextmanager
async def _conflicted(stage: Stage, result: Result, setting: str) -> AsyncIterator[tuple[Bed, Load]]:
    """A load whose sessions have this setting, by their role; what the log says of conflicts is counted."""
    async with bed(stage.folder) as made, connected(made.conninfo) as administrator:
        await order(administrator, f"ALTER ROLE postgres IN DATABASE todo SET {setting}")
        await terminate(administrator)
        async with load(made.web.port, made.users, History()) as found:
            await found.next_success(writes_only=True)
            yield made, found
        log = await asyncio.to_thread((made.postgres.folder / "log").read_text)
        given_up = sum(log.count(text) for text in ("deadlock detected", "could not serialize", "due to lock timeout"))
        result.expect(given_up > 0, "no statement was given up")
        answered = len(found.samples)
        result.figures["statements given up"] = f"{given_up:,} in {answered:,} requests"
        await conclude(made, found, result)
