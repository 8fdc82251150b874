"""Addresses stay unique in a spread database, and development data is made there, too."""

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID

import psycopg
import pytest

from persistence import addresses, distribution, users
from persistence.development import bulk
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from tests.citus.test_distribute import rows
from tests.support.servers import command, url_of
from todos import seed

NUMBER = 12
"""Users that are made at once, and the times that each is."""


@pytest.fixture
def spread(coordinator: Dsn, nodes: list[Dsn]) -> list[Dsn]:
    """The nodes, with a spread database."""
    distribution.distribute(coordinator)
    return nodes


async def test_creates_of_one_address_at_once_through_different_nodes_make_one_user(spread: list[Dsn]) -> None:
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(open_database(node)) for node in spread]

        async def create(number: int) -> list[UUID | None]:
            creates = (users.create(database, f"{number}@Example.com") for database in databases)
            return await asyncio.gather(*creates)

        made = await asyncio.gather(*(create(number) for number in range(NUMBER)))
        for number, ids in enumerate(made):
            [user_id] = [user_id for user_id in ids if user_id is not None]
            for database in databases:
                assert await users.find(database, f"{number}@example.COM") == user_id
    assert rows(spread[0], "SELECT count(*), count(DISTINCT email) FROM users") == [(NUMBER, NUMBER)]


async def test_a_writer_of_addresses_keeps_others_out_on_all_nodes_until_its_commit(spread: list[Dsn]) -> None:
    async with open_database(spread[2]) as other:
        with psycopg.connect(spread[1].conninfo) as one:
            one.execute(addresses.LOCK)
            waiting = asyncio.create_task(users.create(other, "alice@example.com"))
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            assert not done
            one.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'alice@example.com')")
        assert await waiting is None


def test_an_address_is_found_that_was_given_before_the_tables_were_spread(coordinator: Dsn) -> None:
    first = command(url_of(coordinator), "create_user", "alice@example.com")
    distribution.distribute(coordinator)
    again = command(url_of(coordinator), "create_user", "Alice@example.com")
    assert (first.status, again.status) == (0, 1)
    assert "There is a user with the address Alice@example.com already." in again.err


def test_text_that_is_not_an_address_is_refused_as_on_one_node(spread: list[Dsn]) -> None:
    outcome = command(url_of(spread[1]), "create_user", "carol")
    assert (outcome.status, outcome.out) == (1, "")
    assert "is not an address that can be used" in outcome.err


async def test_any_number_that_seed_at_once_make_one_user_with_five_tasks(spread: list[Dsn]) -> None:
    async def seed_through(node: Dsn) -> seed.Seeded:
        async with open_database(node) as database:
            return await seed.seed(database)

    seeded = await asyncio.gather(*(seed_through(node) for node in spread * 2))
    assert len({each.user_id for each in seeded}) == 1
    assert sum(len(each.made_tasks) for each in seeded) == 5
    assert rows(spread[0], "SELECT count(*), count(DISTINCT user_id) FROM tasks") == [(5, 1)]


async def test_data_for_load_tests_is_made_once_and_spread_evenly(spread: list[Dsn]) -> None:
    async with open_database(spread[1]) as database:
        assert [made async for made in bulk.fill(database, 4, 40)] == [40]
        assert [made async for made in bulk.fill(database, 5, 50)] == [10]
    counts = rows(spread[0], "SELECT count(*) FROM tasks GROUP BY user_id")
    assert counts == [(10,)] * 5
