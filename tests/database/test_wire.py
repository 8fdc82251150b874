"""What each operation says to PostgreSQL, counted on the wire: one round trip, and no transaction around it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.sql.compiler import SQLCompiler
from sqlmodel import col, select

from persistence.models import User
from persistence.postgres import pool
from persistence.postgres.connection import PREPARE_AFTER
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.conftest import client_of
from tests.support.helpers import Json, make_task

RUNS = 12


@dataclass
class Wire:
    """What has crossed the wire since the last `reset`: message types as the protocol names them."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    turns: int = 0
    """How often the talk changed from the client to the server: each is a round trip's wait."""
    _talking: str = ""

    def reset(self) -> None:
        self.sent.clear()
        self.received.clear()
        self.turns = 0
        self._talking = ""

    def note_sent(self, kind: str, body: bytes) -> None:
        self.sent.append((kind, body))
        self._talking = "client"

    def note_received(self, kind: str) -> None:
        self.received.append(kind)
        self.turns += self._talking == "client"
        self._talking = "server"

    @property
    def round_trips(self) -> int:
        """ReadyForQuery ends the answer to each Query or Sync; a turn without one would be a round trip as well."""
        asked = sum(kind in "QS" for kind, _ in self.sent)
        answered = self.received.count("Z")
        assert asked == answered
        return max(self.turns, answered)

    @property
    def statements(self) -> list[str]:
        """The texts of every Query and Parse."""
        texts = []
        for kind, body in self.sent:
            if kind == "Q":
                texts.append(body.rstrip(b"\0").decode())
            elif kind == "P":
                texts.append(body.split(b"\0")[1].decode())
        return texts


async def _relay_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire) -> None:
    # The first message has no type.
    head = await reader.readexactly(4)
    writer.write(head + await reader.readexactly(int.from_bytes(head) - 4))
    while True:
        head = await reader.readexactly(5)
        body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
        wire.note_sent(head[:1].decode(), body)
        writer.write(head + body)


async def _relay_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire) -> None:
    while True:
        head = await reader.readexactly(5)
        body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
        wire.note_received(head[:1].decode())
        writer.write(head + body)


@asynccontextmanager
async def _proxy(dsn: Dsn, wire: Wire) -> AsyncIterator[int]:
    """Passes bytes on between a port of 127.0.0.1 and the database, and notes each message."""

    async def serve(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        port = dsn.parameters.get("port", "5432")
        if dsn.is_socket:
            reader, writer = await asyncio.open_unix_connection(f"{dsn.host}/.s.PGSQL.{port}")
        else:
            reader, writer = await asyncio.open_connection(dsn.host, int(port))
        relays = [
            asyncio.ensure_future(_relay_client(client_reader, writer, wire)),
            asyncio.ensure_future(_relay_server(reader, client_writer, wire)),
        ]
        await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        for relay in relays:
            relay.cancel()
        outcomes = await asyncio.gather(*relays, return_exceptions=True)
        for end in (writer, client_writer):
            end.close()
        unexpected = [
            outcome
            for outcome in outcomes
            if not isinstance(outcome, asyncio.IncompleteReadError | asyncio.CancelledError | ConnectionError)
        ]
        assert not unexpected

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def watched(dsn: Dsn, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """The database through the proxy, with a single connection, which a slow machine does not make look rested."""
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 60.0)
    async with _proxy(dsn, wire) as port:
        readable = {"sslmode": "disable", "gssencmode": "disable"}
        address = Dsn(dsn.parameters | {"host": "127.0.0.1", "port": str(port)} | readable)
        options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1))
        async with open_database(address, options) as database:
            yield database


type Operation = Callable[[httpx.AsyncClient, UUID, Json], Awaitable[httpx.Response]]


async def _create(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.post(f"{user}/tasks", json={"title": "Another", "tags": ["home"], "completed": True})


async def _get(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.get(f"{user}/tasks/{task['id']}")


async def _list_first_page(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.get(f"{user}/tasks", params={"limit": 1})


async def _list_with_every_filter(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    moments = {f"{name}_before": "2999-01-01T00:00:00Z" for name in ("due", "created", "updated")}
    query = {"status": "pending", "priority": ["low", "high"], "tag": ["a", "b"], "overdue": "true", "q": "milk bread"}
    return await client.get(f"{user}/tasks", params={"sort": "due_date", "has_due_date": "true", **query, **moments})


async def _count(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.get(f"{user}/tasks/summary")


async def _create_with_a_key(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.post(f"{user}/tasks", json={"title": "Another"}, headers={"Idempotency-Key": task["id"]})


async def _create_again(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.post(f"{user}/tasks", json={"title": "Another", "id": task["id"]})


async def _create_again_after_the_due_date(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    late = {"title": "Another", "id": task["id"], "due_date": "2000-01-01T00:00:00Z"}
    return await client.post(f"{user}/tasks", json=late)


async def _get_if_changed(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.get(f"{user}/tasks/{task['id']}", headers={"If-None-Match": '"1"'})


async def _put_if_unchanged(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await _if_unchanged(client, "PUT", user, task, {"title": "Replaced"})


async def _patch_if_unchanged(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await _if_unchanged(client, "PATCH", user, task, {"title": "Changed"})


async def _delete_if_unchanged(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await _if_unchanged(client, "DELETE", user, task)


async def _if_unchanged(
    client: httpx.AsyncClient, method: str, user: UUID, task: Json, body: Any = None
) -> httpx.Response:
    condition = {"If-Match": f'"1", "{task["version"]}"'}
    return await client.request(method, f"{user}/tasks/{task['id']}", json=body, headers=condition)


async def _put(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.put(f"{user}/tasks/{task['id']}", json={"title": "Replaced", "priority": "high"})


async def _patch(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.patch(f"{user}/tasks/{task['id']}", json={"completed": True, "due_date": None})


async def _patch_nothing(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.patch(f"{user}/tasks/{task['id']}", json={})


async def _delete(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.delete(f"{user}/tasks/{task['id']}")


async def _health(client: httpx.AsyncClient, user: UUID, task: Json) -> httpx.Response:
    return await client.get("v1/health")


@dataclass(frozen=True)
class Run:
    status: int
    round_trips: int
    prepares: bool


async def _watch(wire: Wire, request: Awaitable[httpx.Response]) -> Run:
    """What one request makes cross the wire. Its last message has passed when the application has read it."""
    wire.reset()
    response = await request
    words = {statement.split()[0].upper() for statement in wire.statements if statement.strip()}
    assert not words & {"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "SET", "DISCARD"}
    assert len(wire.statements) <= 1
    named = any(kind == "P" and not body.startswith(b"\0") for kind, body in wire.sent)
    return Run(response.status_code, wire.round_trips, named)


def assert_one_round_trip_each(runs: list[Run]) -> None:
    """One each, but for the single run in the life of a connection that prepares the statement: one more."""
    assert [run.round_trips for run in runs] == [1] * PREPARE_AFTER + [2] + [1] * (RUNS - PREPARE_AFTER - 1)
    assert [run.prepares for run in runs] == [False] * PREPARE_AFTER + [True] + [False] * (RUNS - PREPARE_AFTER - 1)


OPERATIONS = [
    _create,
    _create_with_a_key,
    _create_again,
    _create_again_after_the_due_date,
    _get,
    _get_if_changed,
    _list_first_page,
    _list_with_every_filter,
    _count,
    _put,
    _put_if_unchanged,
    _patch,
    _patch_if_unchanged,
    _patch_nothing,
    _delete,
    _delete_if_unchanged,
    _health,
]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__.strip("_"))


@each_operation
async def test_each_operation_is_one_round_trip(
    operation: Operation, watched: Database, wire: Wire, client: httpx.AsyncClient, alice: UUID
) -> None:
    runs = []
    async with client_of(watched) as watched_client:
        for number in range(RUNS):
            task = await make_task(client, alice, title=f"Task {number}")
            runs.append(await _watch(wire, operation(watched_client, alice, task)))

    assert_one_round_trip_each(runs)
    assert {run.status for run in runs} in ({200}, {201})


@each_operation
async def test_no_operation_builds_a_statement_that_it_has_had_before(
    operation: Operation, client: httpx.AsyncClient, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a statement was compiled")

    await operation(client, alice, await make_task(client, alice))
    monkeypatch.setattr(SQLCompiler, "__init__", refuse)
    response = await operation(client, alice, await make_task(client, alice))

    assert response.status_code in (200, 201)


async def test_the_next_page_is_one_round_trip(
    watched: Database, wire: Wire, client: httpx.AsyncClient, alice: UUID
) -> None:
    for title in ("First", "Second", "Third"):
        await client.post(f"{alice}/tasks", json={"title": title})
    first = (await client.get(f"{alice}/tasks", params={"limit": 1})).json()
    next_page = {"limit": "1", "cursor": first["next_cursor"]}
    async with client_of(watched) as watched_client:
        runs = [await _watch(wire, watched_client.get(f"{alice}/tasks", params=next_page)) for _ in range(RUNS)]

    assert_one_round_trip_each(runs)


async def test_a_task_that_is_missing_or_refused_is_one_round_trip_too(
    watched: Database, wire: Wire, client: httpx.AsyncClient, alice: UUID, bob: UUID
) -> None:
    bobs = await make_task(client, bob)
    nobody = UUID(int=0)
    async with client_of(watched) as watched_client:
        for operation, user in ((_get, alice), (_put, alice), (_patch, alice), (_delete, alice), (_create, nobody)):
            run = await _watch(wire, operation(watched_client, user, bobs))

            assert (run.status, run.round_trips) == (404, 1)


async def test_a_second_round_trip_only_explains_why_a_write_was_not_done(
    watched: Database, wire: Wire, client: httpx.AsyncClient, alice: UUID
) -> None:
    async with client_of(watched) as watched_client:
        for operation in (_put_if_unchanged, _patch_if_unchanged, _delete_if_unchanged):
            task = await make_task(client, alice)
            wire.reset()
            response = await operation(watched_client, alice, task | {"version": 2})

            assert (response.status_code, wire.round_trips, len(wire.statements)) == (412, 2, 2)


async def test_invalid_input_and_live_never_reach_the_database(watched: Database, wire: Wire, alice: UUID) -> None:
    async with client_of(watched) as client:
        wire.reset()
        assert (await client.post(f"{alice}/tasks", json={"title": ""})).status_code == 400
        assert (await client.get(f"{alice}/tasks", params={"limit": 0})).status_code == 400
        assert (await client.get("not-a-uuid/tasks")).status_code == 400
        assert (await client.get("v1/live")).status_code == 200

    assert not wire.sent


async def test_only_a_connection_that_has_rested_is_checked_first(
    watched: Database, wire: Wire, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 0.5)
    async with client_of(watched) as client:
        await client.get(f"{alice}/tasks")
        await asyncio.sleep(0.6)
        wire.reset()
        await client.get(f"{alice}/tasks")
        after_a_rest = wire.round_trips
        at_once = await _watch(wire, client.get(f"{alice}/tasks"))

    assert (after_a_rest, at_once.round_trips) == (2, 1)


async def test_a_session_is_a_transaction_and_its_connection_serves_statements_afterwards(
    watched: Database, wire: Wire, alice: UUID
) -> None:
    async def find_email() -> None:
        async with watched.session() as session:
            await session.exec(select(col(User.email)).where(col(User.id) == alice))

    async with client_of(watched) as client:
        # In its very first session SQLAlchemy gets to know the server.
        await find_email()
        wire.reset()
        await find_email()
        statements = [statement.split()[0] for statement in wire.statements]
        run = await _watch(wire, client.get(f"{alice}/tasks"))

    assert statements == ["BEGIN", "SELECT", "COMMIT"]
    assert (run.status, run.round_trips) == (200, 1)
