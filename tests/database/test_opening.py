"""The opening of connections to a database with several addresses."""

import gc
import socket
from collections.abc import Iterator
from dataclasses import replace

import psutil
import psycopg
import pytest

from persistence import startup
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.opening import open_connection
from tests.database.helpers import options, pid_of
from tests.database.wire import Wire
from tests.support.servers import PostgresServer

TIMEOUT = 2
"""Seconds; the least that libpq takes."""


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def hosts(dsn: Dsn, *ports: int, **parameters: str) -> Dsn:
    """The database at several ports of this machine."""
    addresses = {"host": ",".join(["127.0.0.1"] * len(ports)), "port": ",".join(map(str, ports))}
    return replace(dsn, parameters=dsn.parameters | {"sslmode": "disable"} | addresses | parameters)


async def test_a_silent_host_does_not_use_up_the_time_of_the_next(postgres: PostgresServer, silent: int) -> None:
    dsn = hosts(postgres.dsn, silent, postgres.port)
    async with open_database(dsn, options(most=1, connect_timeout=TIMEOUT)) as database:
        connection = await database.pool.check_out()
        connection.abort()
        database.pool.check_in(connection)
        assert await pid_of(database)


async def test_the_start_gives_each_host_time(
    postgres: PostgresServer, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "RETRIES", 0)
    dsn = hosts(postgres.dsn, silent, postgres.port)
    async with startup.start(dsn, options(), retry=False) as database:
        assert await pid_of(database)


async def test_an_attempt_that_takes_too_long_keeps_no_socket(silent: int, dsn: Dsn) -> None:
    def sockets() -> int:
        return len(psutil.Process().net_connections("tcp"))

    before = sockets()
    gc.disable()
    try:
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            await open_connection(hosts(dsn, silent), options(), TIMEOUT)
        assert sockets() == before
    finally:
        gc.enable()


async def test_hosts_are_tried_in_random_order_if_the_url_says_so(postgres: PostgresServer) -> None:
    first, second = Wire(), Wire()
    async with first.relay(postgres.dsn) as one, second.relay(postgres.dsn) as other:
        ports = [int(each.parameters["port"]) for each in (one, other)]
        dsn = hosts(postgres.dsn, *ports, load_balance_hosts="random")
        while not (first.received and second.received):
            await (await open_connection(dsn, options(), TIMEOUT)).close()


async def test_a_host_that_can_only_be_read_is_passed_over_if_the_url_says_so(postgres: PostgresServer) -> None:
    with postgres.administrator() as admin:
        admin.execute("ALTER DATABASE todo SET default_transaction_read_only = on")
        dsn = hosts(postgres.dsn, postgres.port, target_session_attrs="read-write")
        with pytest.raises(psycopg.OperationalError, match="read-only"):
            await open_connection(dsn, options(), TIMEOUT)
        admin.execute("ALTER DATABASE todo RESET default_transaction_read_only")
    await (await open_connection(dsn, options(), TIMEOUT)).close()
