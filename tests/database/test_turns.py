"""The writes of one owner wait for each other before they have a connection, and hold up nobody else's."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest

from persistence.postgres import costs
from persistence.postgres.database import BUSY_OWNER, Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import PoolTimeout, Unavailable
from persistence.postgres.turns import Turns
from tests.database.helpers import FOREVER, LONG, PID, SLEEP, eventually, options, statement

CLIENTS = 20


@pytest.fixture
async def database(empty_dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(empty_dsn, options(most=3)) as database:
        yield database


async def test_many_writes_of_one_owner_hold_one_connection_and_go_in_order(database: Database, empty_dsn: Dsn) -> None:
    owner = uuid4()
    add = statement("INSERT INTO notes VALUES (:value, DEFAULT)")
    read = statement("SELECT value FROM notes ORDER BY number")
    with psycopg.connect(empty_dsn.conninfo) as holder:
        holder.execute("CREATE TABLE notes (value int, number serial)")
        holder.commit()
        holder.execute("LOCK TABLE notes IN EXCLUSIVE MODE")
        writes = [asyncio.create_task(database.rows(add, {"value": each}, turn=owner)) for each in range(CLIENTS)]
        last = asyncio.create_task(database.together([(add, {"value": CLIENTS})] * 2, turn=owner))
        await eventually(lambda: database.pool.stats.in_use == 1)
        # Others are served meanwhile, and so are the owner's reads.
        assert await database.row(PID, {}, turn=uuid4())
        assert await database.rows(read, {}) == []
        assert (database.pool.stats.in_use, database.pool.stats.waiting) == (1, 0)
        assert not any(write.done() for write in (*writes, last))
    await asyncio.gather(*writes, last)
    assert [row["value"] for row in await database.rows(read, {})] == [*range(CLIENTS), CLIENTS, CLIENTS]


async def test_a_write_that_waits_for_too_long_is_refused_and_its_wait_counts(database: Database) -> None:
    owner = uuid4()
    running = asyncio.create_task(database.rows(SLEEP, FOREVER, turn=owner))
    await eventually(lambda: database.pool.stats.in_use == 1)
    found = costs.Costs()
    token = costs.current.set(found)
    with pytest.raises(PoolTimeout, match=BUSY_OWNER):
        await database.rows(PID, {}, 0.2, turn=owner)
    costs.current.reset(token)
    assert found.waiting >= 0.1
    assert found.database == 0.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await database.rows(PID, {}, turn=owner)


async def test_the_deadline_includes_the_wait_for_the_turn(database: Database) -> None:
    owner = uuid4()
    first = asyncio.create_task(database.rows(SLEEP, {"seconds": 0.4}, turn=owner))
    await eventually(lambda: database.pool.stats.in_use == 1)
    with pytest.raises(Unavailable):
        # Each of the wait and the statement takes less than the timeout.
        await database.rows(SLEEP, {"seconds": 0.9}, 1.2, turn=owner)
    await first


async def test_a_turn_is_passed_on_whatever_becomes_of_the_callers() -> None:
    turns = Turns("too long")
    dice = random.Random()  # noqa: S311 - moments are not a secret
    inside: set[int] = set()

    async def use() -> None:
        key = dice.randrange(3)
        await turns.take(key, dice.choice([0.002, LONG]), LONG)
        assert key not in inside
        inside.add(key)
        try:
            await asyncio.sleep(dice.choice([0, 0.001, 0.003]))
        finally:
            inside.remove(key)
            turns.pass_on(key)

    async def use_and_give_up() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(dice.random() * 0.02)
        task.cancel()
        with suppress(asyncio.CancelledError, PoolTimeout):
            await task

    async with asyncio.timeout(LONG):
        for _ in range(20):
            await asyncio.gather(*(use_and_give_up() for _ in range(20)))
    assert len(turns) == 0


async def test_a_caller_that_is_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    turns = Turns("too long")
    await turns.take("alice", LONG, LONG)
    second, third = (asyncio.create_task(turns.take("alice", LONG, LONG)) for _ in range(2))
    await asyncio.sleep(0)
    turns.pass_on("alice")
    second.cancel()
    await asyncio.wait_for(third, LONG)
    turns.pass_on("alice")
    assert len(turns) == 0


async def test_a_caller_is_refused_at_once_when_the_turns_before_it_will_take_too_long() -> None:
    turns, most = Turns("too long"), 0.2

    async def use(patience: float) -> None:
        await turns.take("alice", patience, most)
        await asyncio.sleep(most / 8)
        turns.pass_on("alice")

    # A crowd that comes at once is let in, whatever it will have to wait for.
    crowd = [asyncio.create_task(use(LONG)) for _ in range(60)]
    await asyncio.sleep(2 * most)
    with pytest.raises(PoolTimeout, match="too long"):
        await use(LONG)
    assert not crowd[-1].done()
    async with asyncio.timeout(LONG):
        await asyncio.gather(*crowd)
        # Nobody waits any more, so nothing of it counts.
        await use(LONG)
    assert len(turns) == 0


async def test_one_long_turn_refuses_nobody() -> None:
    turns, most, stalled, is_over = Turns("too long"), 0.5, asyncio.Event(), asyncio.Event()

    async def use(seconds: float = 0) -> None:
        await turns.take("alice", LONG, most)
        await asyncio.sleep(seconds)
        turns.pass_on("alice")

    async def use_after_the_stall() -> None:
        await turns.take("alice", LONG, most)
        stalled.set()
        await is_over.wait()
        turns.pass_on("alice")

    await turns.take("alice", LONG, most)
    stall = [asyncio.create_task(use(seconds)) for seconds in (0, 0, 0, 2 * most)]
    last = asyncio.create_task(use_after_the_stall())
    turns.pass_on("alice")
    async with asyncio.timeout(LONG):
        await asyncio.sleep(1.5 * most)
        during = [asyncio.create_task(use()) for _ in range(20)]
        await stalled.wait()
        after = [asyncio.create_task(use()) for _ in range(20)]
        await asyncio.sleep(0)
        is_over.set()
        await asyncio.gather(*stall, last, *during, *after)
    assert len(turns) == 0
