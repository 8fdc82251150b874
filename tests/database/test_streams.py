"""The rows of one statement as a caller takes them: of one moment, and with nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import uuid4

import pytest

from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import InvalidValue, PoolTimeout, Unavailable
from persistence.postgres.streams import ROWS_AT_ONCE
from tests.database.helpers import Admin, eventually, options, pid_of, statement, value_of

ROWS = statement("SELECT n AS value FROM generate_series(1, :count) AS n")
MANY = {"count": 10 * ROWS_AT_ONCE}
OPTIONS = options(most=8)


@pytest.fixture
async def database(empty_dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(empty_dsn, OPTIONS) as database:
        yield database


async def numbers(database: Database, count: int) -> list[int]:
    async with aclosing(database.stream(ROWS, {"count": count}, uuid4())) as batches:
        found = [[row["value"] for row in batch] async for batch in batches]
    assert all(len(batch) <= ROWS_AT_ONCE for batch in found)
    return [number for batch in found for number in batch]


async def test_it_has_all_rows_whatever_their_number(database: Database) -> None:
    for count in (0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE):
        assert await numbers(database, count) == list(range(1, count + 1))
    assert database.pool.stats.in_use == 0


async def test_all_rows_are_of_one_moment(database: Database, admin: Admin) -> None:
    admin.execute("CREATE TABLE things AS SELECT n FROM generate_series(1, %s) AS n", MANY["count"])
    async with aclosing(database.stream(statement("SELECT n AS value FROM things"), {}, uuid4())) as batches:
        found = await anext(batches)
        admin.execute("UPDATE things SET n = n + 1000000")
        found += [row for batch in [batch async for batch in batches] for row in batch]
    assert sorted(row["value"] for row in found) == list(range(1, MANY["count"] + 1))


async def test_a_caller_that_leaves_early_gives_the_connection_back_as_it_was(database: Database) -> None:
    before = await pid_of(database)
    async with aclosing(database.stream(ROWS, MANY, uuid4())) as batches:
        await anext(batches)
        assert database.pool.stats.in_use == 1
    assert database.pool.stats.in_use == 0
    assert await pid_of(database) == before


async def test_a_caller_that_is_cancelled_ends_the_statement(database: Database, admin: Admin) -> None:
    sleeping = statement("SELECT pg_sleep(:seconds)::text AS value")

    async def read() -> None:
        async with aclosing(database.stream(sleeping, {"seconds": 3600.0}, uuid4())) as batches:
            await anext(batches)

    task = asyncio.create_task(read())
    await admin.waiting()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: not admin.pids("state <> 'idle'") and database.pool.stats.in_use == 0)


async def test_a_connection_that_is_lost_half_way_is_an_error_and_not_the_end(database: Database, admin: Admin) -> None:
    async with aclosing(database.stream(ROWS, MANY, uuid4())) as batches:
        await anext(batches)
        admin.terminate(*admin.pids("state = 'idle in transaction'"))
        with pytest.raises(Unavailable):
            await anext(batches)
    assert await value_of(database, "SELECT 1 AS value") == 1


async def test_a_statement_that_takes_too_long_is_cut_off(empty_dsn: Dsn) -> None:
    async with open_database(empty_dsn, options(statement_timeout=0.3)) as database:
        sleeping = statement("SELECT pg_sleep(3600)::text AS value")
        with pytest.raises(Unavailable):
            await anext(database.stream(sleeping, {}, uuid4()))


async def test_an_error_of_the_statement_is_the_callers(database: Database) -> None:
    with pytest.raises(InvalidValue):
        await anext(database.stream(statement("SELECT 1 / (:count)::int AS value"), {"count": 0}, uuid4()))


async def test_it_writes_nothing(database: Database, admin: Admin) -> None:
    admin.execute("CREATE SEQUENCE numbers")
    with pytest.raises(Unavailable):
        await anext(database.stream(statement("SELECT nextval('numbers') AS value"), {}, uuid4()))


async def test_one_of_an_owner_and_a_few_in_all_and_others_are_refused_at_once(database: Database) -> None:
    # A pool of eight has four places for what takes long, and one of them for a stream.
    owner = uuid4()
    async with aclosing(database.stream(ROWS, MANY, owner)) as batches:
        await anext(batches)
        for other in (owner, uuid4()):
            with pytest.raises(PoolTimeout):
                await anext(database.stream(ROWS, MANY, other))
        # What else takes long is not held up for minutes.
        assert await database.long_rows(ROWS, {"count": 1}, owner) == [{"value": 1}]
    assert await numbers(database, 1) == [1]
