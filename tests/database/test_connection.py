"""One statement on one connection, at the level of the protocol."""

import asyncio
import resource
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from typing import Any, Self

import psycopg
import pytest
import uvloop
from psycopg.pq import TransactionStatus

from persistence.postgres import connection as connections
from persistence.postgres.connection import PREPARE_AFTER, Connection
from persistence.postgres.dsn import Dsn
from persistence.postgres.statement import Statement
from tests.database.helpers import FOREVER, LONG, SLEEP, eventually, statement
from tests.support.databases import as_owner
from tests.support.sockets import reset_when_closed

LARGE = 2_000_000
"""More characters than the buffers of two sockets hold."""
ONE = statement("SELECT 1 AS value")
MANY = statement("SELECT repeat('x', 1000) AS value FROM generate_series(1, 100)")
ECHO = statement("SELECT cast(:value AS int) AS value")


@pytest.fixture
async def connection(dsn: Dsn) -> AsyncIterator[Connection]:
    """One of the owner, who may have temporary tables."""
    connection = await connect(as_owner(dsn))
    yield connection
    await connection.close()


async def connect(dsn: Dsn) -> Connection:
    return await Connection.connect(dsn.conninfo, autocommit=True, prepare_threshold=None)


class Relay:
    """A network of one connection, which can lose it in the middle of an answer."""

    HALF = 4096
    """Bytes of an answer of which more is held back, until `send_half_and_reset`."""

    def __init__(self, server: socket.socket) -> None:
        self._server, self._listener = server, socket.create_server(("127.0.0.1", 0))
        self.address = {"host": "127.0.0.1", "port": str(self._listener.getsockname()[1])}
        self._answer = b""
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._server.close()
        self._listener.close()

    @property
    def held(self) -> int:
        return len(self._answer)

    def _stop(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def send_half_and_reset(self) -> None:
        # A socket that a thread selects on is not closed at once.
        self._stop()
        self._client.sendall(self._answer[: self.HALF])
        reset_when_closed(self._client)
        self._client.close()

    def _run(self) -> None:
        self._client, _ = self._listener.accept()
        with suppress(OSError, ValueError):
            while True:
                for readable in select.select([self._client, self._server], [], [])[0]:
                    data = readable.recv(65536)
                    if not data:
                        return
                    if readable is self._client:
                        self._server.sendall(data)
                    elif len(data) > self.HALF or self._answer:
                        self._answer += data
                    else:
                        self._client.sendall(data)


def socket_of(dsn: Dsn) -> socket.socket:
    port = dsn.parameters.get("port", "5432")
    if not dsn.is_socket:
        return socket.create_connection((dsn.host, int(port)))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{dsn.host}/.s.PGSQL.{port}")
    return server


def end(dsn: Dsn, connection: Connection) -> None:
    with psycopg.connect(as_owner(dsn).conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s::int, 60000)", [connection.info.backend_pid])


async def use(connection: Connection, statement: Statement, times: int) -> None:
    for value in range(times):
        await connection.fetch(statement, {"value": value})


async def start(connection: Connection) -> asyncio.Task[list[dict[str, Any]]]:
    """Starts a statement that does not end by itself, and returns when it has been sent."""
    running = asyncio.create_task(connection.fetch(SLEEP, FOREVER))
    await eventually(lambda: connection.pgconn.transaction_status == TransactionStatus.ACTIVE)
    return running


async def prepared(connection: Connection) -> list[str]:
    cursor = await connection.execute("SELECT statement FROM pg_prepared_statements ORDER BY name")
    return [text for (text,) in await cursor.fetchall()]


async def test_it_returns_rows_by_the_names_of_their_columns(connection: Connection) -> None:
    two = statement("SELECT n AS number, 'x' AS letter FROM generate_series(1, 2) AS n", "number", "letter")
    assert await connection.fetch(two, {}) == [{"number": 1, "letter": "x"}, {"number": 2, "letter": "x"}]
    assert await connection.fetch(statement("SELECT 1 AS value WHERE false"), {}) == []
    assert await connection.fetch(statement("CREATE TEMP TABLE notes (note text)"), {}) == []


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_reset_together_with_half_an_answer_is_heard(
    dsn: Dsn, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def run() -> None:
        with Relay(socket_of(dsn)) as relay:
            connection = await connect(replace(dsn, parameters=dsn.parameters | relay.address))
            await connection.fetch(ONE, {})
            running = asyncio.create_task(connection.fetch(MANY, {}))
            await eventually(lambda: relay.held >= Relay.HALF)
            # Nothing runs in between, so the loop hears of both at once.
            relay.send_half_and_reset()
            with pytest.raises(psycopg.OperationalError):
                async with asyncio.timeout(LONG):
                    await running
            await connection.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())


async def close_it(connection: Connection, _: Dsn) -> None:
    await connection.close()


async def end_it(connection: Connection, _: Dsn) -> None:
    connection.end()


async def abort_it(connection: Connection, _: Dsn) -> None:
    running = await start(connection)
    connection.abort()
    with suppress(psycopg.Error):
        await running


async def end_its_server(connection: Connection, dsn: Dsn) -> None:
    running = await start(connection)
    end(dsn, connection)
    with suppress(psycopg.Error):
        await running


async def end_its_server_while_it_is_idle(connection: Connection, dsn: Dsn) -> None:
    await asyncio.to_thread(end, dsn, connection)
    with suppress(psycopg.Error):
        await connection.fetch(ONE, {})


async def end_its_server_after_its_caller(connection: Connection, dsn: Dsn) -> None:
    running = await start(connection)
    running.cancel()
    await asyncio.wait([running])
    end(dsn, connection)
    with suppress(psycopg.Error):
        await connection.drop_answer()


async def end_its_server_in_what_psycopg_does(connection: Connection, _: Dsn) -> None:
    with suppress(psycopg.Error):
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize(
    "make_end",
    [
        close_it, end_it, abort_it, end_its_server, end_its_server_while_it_is_idle, end_its_server_after_its_caller,
        end_its_server_in_what_psycopg_does,
    ],
)  # fmt: skip
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_event_loop_forgets_a_connection_that_ends(
    dsn: Dsn,
    make_end: Callable[[Connection, Dsn], Awaitable[None]],
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Otherwise it mixes it up with the next one, whose descriptor has the same number."""

    async def run() -> bool:
        connection = await connect(as_owner(dsn))
        descriptor = connection.pgconn.socket
        await connection.fetch(ONE, {})
        await make_end(connection, dsn)
        was_known = asyncio.get_running_loop().remove_reader(descriptor)
        connection.end()
        return was_known

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert not runner.run(run())


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_event_loop_hears_once_of_a_server_that_speaks_to_nobody(
    dsn: Dsn, make_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be busy with what nobody reads."""

    async def run() -> None:
        connection = await connect(as_owner(dsn))
        hear, heard = connection.hear, 0

        def count() -> None:
            nonlocal heard
            heard += 1
            hear()

        await connection.fetch(ONE, {})
        monkeypatch.setattr(connection, "hear", count)
        await asyncio.to_thread(end, dsn, connection)
        await eventually(lambda: heard > 0)
        await asyncio.sleep(0.05)
        connection.end()
        assert heard == 1

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())


async def test_it_sends_and_receives_more_than_the_network_holds(connection: Connection) -> None:
    value = "é" * LARGE
    [row] = await connection.fetch(statement("SELECT repeat(cast(:value AS text), 2) AS value"), {"value": value})
    assert row["value"] == value + value


async def test_it_prepares_a_statement_that_is_used_often(connection: Connection) -> None:
    await use(connection, ECHO, PREPARE_AFTER)
    assert await prepared(connection) == []
    for value in range(3):
        # A statement that is built anew has the same text, so it is the same statement.
        again = statement("SELECT cast(:value AS int) AS value")
        assert await connection.fetch(again, {"value": value}) == [{"value": value}]
    assert await prepared(connection) == [ECHO.text]


async def test_it_bounds_the_statements_that_it_prepares_and_counts(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "COUNTED_MAX", 3)
    first, second, third = [statement(f"SELECT {number} AS value") for number in range(3)]
    await use(connection, ECHO, PREPARE_AFTER)
    for each in (first, second, third):
        await use(connection, each, 1)
    await use(connection, ECHO, PREPARE_AFTER)
    # The first uses were forgotten for the sake of other statements.
    assert await prepared(connection) == []
    monkeypatch.setattr(connections, "COUNTED_MAX", 100)
    monkeypatch.setattr(connections, "PREPARED_MAX", 2)
    for each in (first, second, third):
        await use(connection, each, PREPARE_AFTER + 1)
    assert sorted(await prepared(connection)) == [first.text, second.text]


@pytest.mark.parametrize(
    "query", ["SELECT * FROM nowhere", "SELECT 1 / cast(:value AS int)", "SELECT 1 UNION SELECT 2 FOR UPDATE"]
)
async def test_a_failed_statement_leaves_the_connection_good(connection: Connection, query: str) -> None:
    for _ in range(2 * PREPARE_AFTER):
        with pytest.raises(psycopg.DatabaseError) as caught:
            await connection.fetch(statement(query), {"value": 0})
        assert caught.value.sqlstate
        assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert await connection.fetch(ONE, {}) == [{"value": 1}]


@pytest.mark.parametrize("change", ["ALTER TABLE notes ALTER value TYPE text", "DEALLOCATE ALL"])
async def test_a_prepared_statement_that_is_outdated_or_gone_costs_no_error(
    connection: Connection, change: str
) -> None:
    await connection.execute("CREATE TEMP TABLE notes (value int)")
    await connection.execute("INSERT INTO notes VALUES (7)")
    read = statement("SELECT value FROM notes")
    await use(connection, read, 2 * PREPARE_AFTER)
    await connection.execute(change.encode())
    assert await connection.fetch(read, {}) in ([{"value": 7}], [{"value": "7"}])
    assert connection.invalidated


async def test_the_rollback_of_a_session_keeps_prepared_statements(connection: Connection) -> None:
    for _ in range(2 * PREPARE_AFTER):
        await connection.fetch(ONE, {})
        async with connection.transaction():
            await connection.execute("SELECT 2")
            raise psycopg.Rollback
    assert await prepared(connection) == [ONE.text]
    assert not connection.invalidated


async def test_a_name_that_a_pooler_knows_already_stands_for_the_same_statement(
    connection: Connection, dsn: Dsn
) -> None:
    await use(connection, ECHO, PREPARE_AFTER + 1)
    cursor = await connection.execute("SELECT name FROM pg_prepared_statements")
    [name] = await cursor.fetchone() or []
    other = await connect(dsn)
    # As if another client of the pooler had prepared the statement on this session.
    await other.execute(f"PREPARE {name} AS {ECHO.text}".encode())
    for value in range(PREPARE_AFTER + 2):
        assert await other.fetch(ECHO, {"value": value}) == [{"value": value}]
    assert not other.invalidated
    await other.close()


async def test_aborting_a_connection_wakes_the_caller_that_waits_and_needs_no_file(connection: Connection) -> None:
    running = await start(connection)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        connection.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with pytest.raises(psycopg.OperationalError) as caught:
        await running
    assert caught.value.sqlstate is None


async def test_the_end_of_its_server_between_two_statements_invalidates_a_connection(
    connection: Connection, dsn: Dsn
) -> None:
    # Another notice has no such effect.
    await connection.execute("DO $$ BEGIN RAISE WARNING 'x'; END $$")
    assert not connection.invalidated
    end(dsn, connection)
    # libpq reads the message while no statement is under way.
    connection.pgconn.consume_input()
    connection.pgconn.get_result()
    assert connection.invalidated
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            await connection.fetch(ONE, {})


async def test_a_statement_is_not_sent_when_the_server_ended_the_connection_after_preparing_it(
    connection: Connection,
) -> None:
    await connection.execute("CREATE TEMP TABLE notes (value int)")
    insert = statement("INSERT INTO notes VALUES (:value)")
    await use(connection, insert, PREPARE_AFTER)
    connection.invalidated = True
    with pytest.raises(psycopg.OperationalError, match="the connection ended when") as refusal:
        await connection.fetch(insert, {"value": 0})
    assert connection.has_rolled_back(refusal.value)
    cursor = await connection.execute("SELECT count(*) FROM notes")
    assert await cursor.fetchone() == (PREPARE_AFTER,)
