"""Statements whose cost grows with what an owner has stored: they cannot fill the pool, nor can one owner's."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import task_lists
from persistence.postgres.bulkhead import BUSY, Bulkhead
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import PoolTimeout
from tests.database.helpers import FOREVER, LONG, SLEEP, Admin, eventually, new_user, options
from tests.database.test_pool import hold_at_once
from tests.support.databases import as_owner

POOL = options(most=8)
PLACES = 4
"""What follows from a pool of this size."""


@pytest.fixture
async def database(empty_dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(empty_dsn, POOL) as database:
        yield database


def start(database: Database, owner: UUID, number: int) -> list[asyncio.Task[object]]:
    return [asyncio.create_task(database.long_rows(SLEEP, FOREVER, owner)) for _ in range(number)]


async def cancel(running: list[asyncio.Task[object]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_of_one_owner_one_runs_at_a_time_and_of_all_a_part_of_the_pool(database: Database) -> None:
    running = start(database, uuid4(), 10)
    await eventually(lambda: database.pool.stats.in_use == 1)
    for _ in range(PLACES):
        running += start(database, uuid4(), 10)
    await eventually(lambda: database.pool.stats.in_use == PLACES)
    # Whatever else is asked for has its connections.
    assert len(await hold_at_once(database, 4)) == 4
    assert database.pool.stats.in_use == PLACES
    await cancel(running)
    await eventually(lambda: database.pool.stats.in_use == 0)
    running = start(database, uuid4(), 1)
    await eventually(lambda: database.pool.stats.in_use == 1)
    await cancel(running)


async def test_of_one_owner_one_runs_at_a_time_in_all_processes(migrated_dsn: Dsn, admin: Admin) -> None:
    async with open_database(migrated_dsn, POOL) as database:
        user, other = await new_user(database), await new_user(database)
        # On the node that has the user.
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema || id::text, 0)) FROM users WHERE id = %s"
        with psycopg.connect(as_owner(migrated_dsn).conninfo) as elsewhere:
            elsewhere.execute(lock, [user])
            waiting = asyncio.create_task(task_lists.summary(database, user))
            await admin.waiting()
            assert (await task_lists.summary(database, other))["total"] == 0
            assert not waiting.done()
        assert (await waiting)["total"] == 0


async def test_one_that_waits_for_too_long_is_refused(empty_dsn: Dsn) -> None:
    async with open_database(empty_dsn, replace(POOL, statement_timeout=2.0)) as database:
        owner = uuid4()
        running = start(database, owner, 1)
        await eventually(lambda: database.pool.stats.in_use == 1)
        with pytest.raises(PoolTimeout, match=BUSY):
            await database.long_rows(SLEEP, FOREVER, owner)
        await cancel(running)


async def test_searches_sorted_lists_and_counts_take_such_places_and_pages_do_not(migrated_dsn: Dsn) -> None:
    async with open_database(migrated_dsn, replace(POOL, statement_timeout=LONG)) as database:
        user = await new_user(database)
        running = start(database, user, 1)
        await eventually(lambda: database.pool.stats.in_use == 1)
        waiting = [
            asyncio.create_task(task_lists.page(database, user, 10, {"words": ["milk"]})),
            asyncio.create_task(task_lists.page(database, user, 10, sort="title")),
            asyncio.create_task(task_lists.summary(database, user)),
        ]
        assert await task_lists.page(database, user, 10) == []
        assert await task_lists.page(database, user, 10, {"status": "pending"}) == []
        assert await task_lists.page(database, uuid4(), 10, {"words": ["milk"]}) == []
        assert not any(task.done() for task in waiting)
        await cancel(running)
        assert [bool(found) for found in await asyncio.gather(*waiting)] == [False, False, True]


async def test_no_place_is_lost_whenever_a_caller_gives_up() -> None:
    bulkhead = Bulkhead(size=2, patience=0.003)
    dice = random.Random()  # noqa: S311 - moments are not a secret
    inside = 0

    async def use() -> None:
        nonlocal inside
        async with bulkhead.place(dice.randrange(3)):
            inside += 1
            assert inside <= 2
            try:
                await asyncio.sleep(dice.choice([0, 0.001, 0.003]))
            finally:
                inside -= 1

    async def use_and_give_up() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(dice.random() * 0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, PoolTimeout):
            await task

    for _ in range(20):
        await asyncio.gather(*(use_and_give_up() for _ in range(20)))
    assert bulkhead._places._value == 2
