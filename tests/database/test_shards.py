"""The rows of owners on several nodes: which node has those of an owner, and the statements of a node that is stuck."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.postgres import cancellation
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded, OutcomeUnknown, PoolTimeout
from persistence.postgres.nodes import NodeStats
from persistence.postgres.shards import SILENT, SILENT_AFTER, TRIALS, uuid_hash
from tests.database.helpers import LONG, Admin, eventually, options, statement

WRITE = statement("WITH slept AS (SELECT FROM pg_sleep(:seconds)) SELECT CAST(:user_id AS uuid) AS value FROM slept")
"""Does what `SLEEP` does, and does not count as a read."""
STUBBORN = statement("SELECT CAST(:user_id AS uuid) AS value FROM stubborn()")
NO_CANCEL = """
    CREATE FUNCTION stubborn() RETURNS void LANGUAGE plpgsql AS '
    BEGIN
        LOOP
            BEGIN
                PERFORM pg_sleep(3600);
            EXCEPTION WHEN query_canceled THEN
            END;
        END LOOP;
    END'
"""
"""Waits as a coordinator does for a frozen node: it obeys no request to cancel."""
SLEEP = statement("SELECT CAST(:user_id AS uuid) AS value FROM pg_sleep(:seconds)")
HALVES = [{"least": -(2**31), "node": "left"}, {"least": 0, "node": "right"}]


def test_the_hash_of_an_owner_is_that_of_postgresql(empty_dsn: Dsn, admin: Admin) -> None:
    owners = [UUID(int=0), UUID(int=2**128 - 1), *(uuid4() for _ in range(1000))]
    found = admin.execute("SELECT id, uuid_hash(id) FROM unnest(%s::uuid[]) AS id", owners)
    assert {owner: uuid_hash(owner) for owner in owners} == dict(found)


def owner_on(node: str) -> UUID:
    return next(owner for owner in iter(uuid4, None) if (uuid_hash(owner) < 0) is (node == "left"))


@pytest.fixture
async def spread(empty_dsn: Dsn, admin: Admin) -> AsyncIterator[Database]:
    """A database that takes its owners for those of two nodes, with 10 connections."""
    admin.load_citus()
    async with open_database(empty_dsn, options(most=10)) as database:
        database.shards.load(HALVES)
        yield database


async def sleep(
    database: Database, node: str, seconds: float = 0.0, timeout: float = 60.0, *, long: bool = False
) -> list[dict[str, Any]]:
    owner = owner_on(node)
    values = {"user_id": owner, "seconds": seconds}
    if long:
        return await database.long_rows(SLEEP, values, owner)
    return await database.rows(SLEEP, values, timeout)


@asynccontextmanager
async def sleeping(database: Database, node: str, count: int, *, long: bool = False) -> AsyncIterator[None]:
    """Statements of a node that do not end until the end of the block."""
    running = [asyncio.create_task(sleep(database, node, 3600.0, long=long)) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def answer(database: Database, node: str) -> None:
    """Returns when a statement of the node gets a place and succeeds."""
    async with asyncio.timeout(LONG):
        while True:
            with suppress(PoolTimeout):
                await sleep(database, node)
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("long", [False, True])
async def test_a_node_that_is_stuck_does_not_take_the_pool(spread: Database, long: bool) -> None:
    expected = 2 if long else 5
    async with sleeping(spread, "left", 30, long=long):
        await eventually(lambda: spread.pool.stats.in_use >= expected)
        await asyncio.gather(*(sleep(spread, "right", long=long) for _ in range(50)))
        assert spread.pool.stats.in_use == expected
    await asyncio.gather(*(sleep(spread, "left") for _ in range(20)))


async def test_a_caller_that_waits_for_its_node_is_refused_in_time(spread: Database) -> None:
    async with sleeping(spread, "left", 5):
        await eventually(lambda: spread.pool.stats.in_use == 5)
        with pytest.raises(PoolTimeout, match="part of the database"):
            await sleep(spread, "left", timeout=0.2)


async def test_a_node_whose_statements_all_fail_does_not_answer_until_one_succeeds(spread: Database) -> None:
    for failures in range(SILENT_AFTER):
        assert spread.shards.stats == NodeStats(2, 2), failures
        with pytest.raises(DeadlineExceeded):
            await sleep(spread, "left", 3600.0, timeout=0.1)
        await sleep(spread, "right")
    assert spread.shards.stats == NodeStats(2, 1)
    # What is known of a node outlasts the next look at the shards.
    spread.shards.load(HALVES)
    assert spread.shards.stats == NodeStats(2, 1)
    await sleep(spread, "left")
    assert spread.shards.stats == NodeStats(2, 2)


async def test_a_silent_node_is_tried_by_few_at_once_and_others_of_it_are_refused_at_once(spread: Database) -> None:
    for _ in range(SILENT_AFTER):
        with pytest.raises(DeadlineExceeded):
            await sleep(spread, "left", 3600.0, timeout=0.1)
    async with sleeping(spread, "left", TRIALS):
        await eventually(lambda: spread.pool.stats.in_use == TRIALS)
        with pytest.raises(PoolTimeout, match=SILENT):
            await sleep(spread, "left")
        await sleep(spread, "right")
    # Those that were cut off have their places until the server has ended them.
    await answer(spread, "left")
    async with sleeping(spread, "left", 5):
        await eventually(lambda: spread.pool.stats.in_use == 5)


async def test_a_statement_that_is_cut_off_keeps_its_place_until_the_server_has_ended_it(
    spread: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "CANCEL_PAUSE", LONG)
    admin.execute(NO_CANCEL)
    calls = (spread.rows(STUBBORN, {"user_id": owner_on("left")}, 0.1) for _ in range(TRIALS))
    assert {type(end) for end in await asyncio.gather(*calls, return_exceptions=True)} == {DeadlineExceeded}
    async with sleeping(spread, "left", 30):
        await eventually(lambda: spread.pool.stats.in_use >= 5)
        await asyncio.gather(*(sleep(spread, "right") for _ in range(50)))
        assert spread.pool.stats.in_use == 5
        # Two of these are cut off.
        admin.terminate(*admin.pids("query LIKE '%%stubborn%%'"))
        await eventually(lambda: len(admin.pids("state = 'active' AND query LIKE '%%pg_sleep%%'")) == 5)


async def test_a_lost_connection_does_not_tell_of_the_node(spread: Database, admin: Admin) -> None:
    values = {"user_id": owner_on("left"), "seconds": 3600.0}
    for _ in range(SILENT_AFTER):
        running = asyncio.create_task(spread.rows(WRITE, values))
        admin.terminate(await admin.waiting())
        with pytest.raises(OutcomeUnknown):
            await running
    assert spread.shards.stats == NodeStats(2, 2)


async def test_an_owner_with_many_long_statements_leaves_places_to_others_of_its_node(spread: Database) -> None:
    values = {"user_id": owner_on("left"), "seconds": 3600.0}
    running = [asyncio.create_task(spread.long_rows(SLEEP, values, values["user_id"])) for _ in range(10)]
    await eventually(lambda: spread.pool.stats.in_use == 1)
    await sleep(spread, "left", long=True)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_one_node_alone_is_not_bounded(spread: Database) -> None:
    spread.shards.load(HALVES[:1])
    assert spread.shards.stats == NodeStats(0, 0)
    async with sleeping(spread, "left", 10):
        await eventually(lambda: spread.pool.stats.in_use == 10)
