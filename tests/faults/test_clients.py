"""The clients log every operation, and always know how far a request came."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest

from persistence.postgres.dsn import Dsn
from tests.faults.clients import load
from tests.faults.history import History, Kind, State
from tests.faults.http import Cut, Http, Unsent
from tests.faults.matrix import Result
from tests.faults.verdict import judge
from tests.support.processes import free_port
from tests.support.servers import WebServer, url_of


@pytest.fixture
def web(dsn: Dsn, tmp_path: Path) -> Iterator[WebServer]:
    settings = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url_of(dsn)}
    with WebServer(tmp_path, settings, "--workers", "1") as web:
        yield web


async def test_clients_log_every_operation_and_a_healthy_server_has_no_violation(
    web: WebServer, dsn: Dsn, alice: UUID, bob: UUID
) -> None:
    history, result = History(), Result()
    async with load(web.port, [alice, bob], history, clients=6) as found:
        while found.succeeded < 200:
            assert await found.next_success(writes_only=True) > 0
    found.add_to(result, may_be_unavailable=False)
    await asyncio.to_thread(judge, history, dsn.conninfo, result)

    assert result == Result(acknowledged=sum(operation.is_write for operation in history.operations))
    assert {operation.state for operation in history.operations} == {State.ACKNOWLEDGED}
    # `tests/sync` has clients that use the trash.
    assert {operation.kind for operation in history.operations} == {*get_args(Kind.__value__)} - {"restore", "erase"}


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A server that answers one request on each connection, and closes it. Yields its port and the connections."""
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port := free_port()):
        yield port, connections


async def test_a_request_that_cannot_be_sent_and_one_without_a_response_are_told_apart() -> None:
    with pytest.raises(Unsent):
        await Http(free_port()).request("GET", "/")
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal") as (port, _):
        with pytest.raises(Cut):
            await Http(port).request("GET", "/")


async def test_a_connection_that_was_closed_while_idle_is_replaced_before_a_request_is_sent() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (port, connections):
        http = Http(port)
        for _ in range(3):
            assert (await http.request("GET", "/")).json == {}
            await connections[-1].wait_closed()
        http.close()

    assert http.connects == 3
