"""A URL of several nodes: connections to all of them, and to the others while one is dead or silent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import NamedTuple

import pytest

from persistence.postgres import nodes, pool
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.nodes import NodeStats
from tests.database.helpers import PID, eventually, options, pid_of
from tests.database.test_opening import hosts
from tests.faults.proxy import Proxy
from tests.support.servers import PostgresServer


class Ways(NamedTuple):
    """Two ways to one server, each of them a node for a client that comes by it."""

    dsn: Dsn
    one: Proxy
    other: Proxy


@asynccontextmanager
async def opened(postgres: PostgresServer, most: int = 4, **parameters: str) -> AsyncIterator[tuple[Ways, Database]]:
    with ExitStack() as stack:
        one, other = (stack.enter_context(Proxy(postgres.port)) for _ in range(2))
        dsn = hosts(postgres.dsn, one.port, other.port, **parameters)
        async with open_database(dsn, options(least=most, most=most, connect_timeout=60)) as database:
            await eventually(lambda: database.pool.stats.idle == most)
            yield Ways(dsn, one, other), database


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "INTERVAL", 0.05)


async def ports(database: Database) -> Counter[int]:
    """Connections of the pool by the port that they lead to."""
    held = [await database.pool.check_out() for _ in range(database.pool.limits.max_size)]
    for connection in held:
        database.pool.check_in(connection)
    return Counter(int(connection.node.rpartition(":")[2]) for connection in held)


async def test_connections_are_spread_over_the_nodes(postgres: PostgresServer) -> None:
    async with opened(postgres, 30, load_balance_hosts="random") as (ways, database):
        # One of them alone has all once in 500 million runs.
        assert (await ports(database)).keys() == {ways.one.port, ways.other.port}


async def test_a_node_that_does_not_answer_loses_its_connections_and_no_other_does(postgres: PostgresServer) -> None:
    async with opened(postgres, 30, load_balance_hosts="random") as (ways, database):
        before = {connection: connection.node for connection in database.pool._idle}
        ways.one.stall()
        await eventually(lambda: database.nodes.stats == NodeStats(known=2, answering=1))
        # The pool opens as many others, none of which waits for the silent node.
        await eventually(lambda: database.pool.stats.idle == 30)
        assert await ports(database) == {ways.other.port: 30}
        kept = {connection for connection, node in before.items() if node.endswith(f":{ways.other.port}")}
        assert kept <= {*database.pool._idle}
        assert all(connection.closed for connection in before.keys() - kept)


async def test_a_check_that_no_answer_comes_to_tells_of_its_node_alone(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "INTERVAL", 3600.0)
    async with opened(postgres, 30, load_balance_hosts="random") as (ways, database):
        kept = {each for each in database.pool._idle if each.node.endswith(f":{ways.other.port}")}
        ways.one.stall()
        monkeypatch.setattr(pool, "CHECK_TIMEOUT", 0.3)
        monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", -1.0)
        assert await ports(database) == {ways.other.port: 30}
        assert kept <= {*database.pool._idle}
        assert database.nodes.stats == NodeStats(known=2, answering=1)


async def test_the_connections_of_a_dead_node_are_opened_to_the_others(postgres: PostgresServer) -> None:
    async with opened(postgres) as (ways, database):
        assert await ports(database) == {ways.one.port: 4}
        # Nothing listens there.
        ways.one.target = 1
        ways.one.cut_all()
        await asyncio.gather(*(pid_of(database) for _ in range(20)))
        assert await ports(database) == {ways.other.port: 4}


async def test_a_node_that_is_back_gets_connections_again(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgres) as (ways, database):
        ways.one.stall()
        await eventually(lambda: database.nodes.stats.answering == 1)
        await eventually(lambda: database.pool.stats.idle == 4)
        ways.one.resume()
        await eventually(lambda: database.nodes.stats.answering == 2)
        for connection in [*database.pool._idle]:
            connection.expires_at = 0.0
        await ports(database)
        await eventually(lambda: database.pool.stats.idle == 4)
        assert await ports(database) == {ways.one.port: 4}


async def test_a_url_without_a_node_that_answers_fails_callers_and_they_are_served_when_one_does(
    postgres: PostgresServer,
) -> None:
    async with opened(postgres) as (_, database):
        await asyncio.to_thread(postgres.stop)
        await eventually(lambda: database.nodes.stats.answering == 0)
        await eventually(lambda: database.pool.is_lost)
        await asyncio.to_thread(postgres.start)
        await eventually(lambda: not database.pool.is_lost)
        assert await pid_of(database)
        await eventually(lambda: database.nodes.stats.answering == 2)


async def test_one_node_alone_costs_no_round_trip_and_no_connection(postgres: PostgresServer) -> None:
    with Proxy(postgres.port) as proxy:
        async with open_database(hosts(postgres.dsn, proxy.port), options(most=2)) as database:
            await database.rows(PID, {})
            await asyncio.sleep(0.3)
            assert proxy.accepted == 1
            assert database.nodes.stats == NodeStats(known=1, answering=1)
