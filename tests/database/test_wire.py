"""The messages between an operation and PostgreSQL: one round trip, and no transaction around it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest
from django.conf import settings
from sqlalchemy.sql.compiler import SQLCompiler

from identity.verifier import Verifier, open_verifier
from persistence.postgres import pool
from persistence.postgres.connection import PREPARE_AFTER
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from tests.conftest import client_of
from tests.database.helpers import options
from tests.database.wire import Wire
from tests.support.helpers import Json, make_task, rules_of, signed_in
from tests.support.issuer import Issuer

RUNS = 12

type Operation = Callable[[httpx.AsyncClient, UUID, Json], Awaitable[httpx.Response]]


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def watched_client(dsn: Dsn, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    async with watched(dsn, wire, monkeypatch) as client:
        yield client


@asynccontextmanager
async def watched(
    dsn: Dsn, wire: Wire, monkeypatch: pytest.MonkeyPatch, verifier: Verifier | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """The application with one connection, through the relay; a slow machine does not make it look idle."""
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 3600.0)
    async with (
        wire.relay(dsn) as through,
        open_database(through, options(most=1)) as database,
        client_of(database, verifier) as client,
    ):
        yield client


def on_tasks(method: str, **options: Any) -> Operation:
    return lambda client, user, _: client.request(method, f"{user}/tasks", **options)


def on_task(method: str, **options: Any) -> Operation:
    return lambda client, user, task: client.request(method, f"{user}/tasks/{task['id']}", **options)


def if_unchanged(method: str, **options: Any) -> Operation:
    def send(client: httpx.AsyncClient, user: UUID, task: Json) -> Awaitable[httpx.Response]:
        condition = {"If-Match": f'"1", "{task["version"]}"'}
        return client.request(method, f"{user}/tasks/{task['id']}", headers=condition, **options)

    return send


def once(method: str, **options: Any) -> Operation:
    def send(client: httpx.AsyncClient, user: UUID, task: Json) -> Awaitable[httpx.Response]:
        key = {"Idempotency-Key": str(task["id"])}
        return client.request(method, f"{user}/tasks/{task['id']}", headers=key, **options)

    return send


def create_again(**values: Any) -> Operation:
    body = {"title": "Another"} | values
    return lambda client, user, task: client.post(f"{user}/tasks", json=body | {"id": task["id"]})


MOMENTS = {f"{name}_before": "2999-01-01T00:00:00Z" for name in ("due", "created", "updated")}
EVERY_FILTER = {
    "status": "pending", "priority": ["low", "high"], "tag": ["a", "b"], "overdue": "true", "q": "milk bread",
    "has_due_date": "true", "sort": "due_date", **MOMENTS,
}  # fmt: skip
OPERATIONS: dict[str, Operation] = {
    "create": on_tasks("POST", json={"title": "Another", "tags": ["home"], "completed": True}),
    "create with a key": lambda client, user, task: client.post(
        f"{user}/tasks", json={"title": "Another"}, headers={"Idempotency-Key": task["id"]}
    ),
    "create again": create_again(),
    "create again after the due date": create_again(due_date="2000-01-01T00:00:00Z"),
    "get": on_task("GET"),
    "get if changed": on_task("GET", headers={"If-None-Match": '"1"'}),
    "list the first page": on_tasks("GET", params={"limit": 1}),
    "list with every filter": on_tasks("GET", params=EVERY_FILTER),
    "count": lambda client, user, _: client.get(f"{user}/tasks/summary"),
    "put": on_task("PUT", json={"title": "Replaced", "priority": "high"}),
    "put if unchanged": if_unchanged("PUT", json={"title": "Replaced"}),
    "patch": on_task("PATCH", json={"completed": True, "due_date": None}),
    "patch if unchanged": if_unchanged("PATCH", json={"title": "Changed"}),
    "patch nothing": on_task("PATCH", json={}),
    "delete": on_task("DELETE"),
    "delete if unchanged": if_unchanged("DELETE"),
    "put once": once("PUT", json={"title": "Replaced"}),
    "patch once": once("PATCH", json={"title": "Changed"}),
    "delete once": once("DELETE"),
    "list changes": lambda client, user, _: client.get(f"{user}/tasks/changes", params={"limit": 2}),
    "list the trash": lambda client, user, _: client.get(f"{user}/trash", params={"limit": 2}),
}
OPERATIONS_ON_THE_TRASH: dict[str, Operation] = {
    "restore": lambda client, user, task: client.post(f"{user}/trash/{task['id']}/restore"),
    "restore once if unchanged": lambda client, user, task: client.post(
        f"{user}/trash/{task['id']}/restore",
        headers={"If-Match": f'"{task["version"]}"', "Idempotency-Key": task["id"]},
    ),
    "erase": lambda client, user, task: client.delete(f"{user}/trash/{task['id']}"),
    "empty": lambda client, user, _: client.delete(f"{user}/trash"),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


class Run(NamedTuple):
    status: int
    round_trips: int
    prepares: bool


async def watch(wire: Wire, request: Awaitable[httpx.Response], statements: int = 1) -> Run:
    """Counts the messages of one request, which sends so many statements at most.

    Its last message has passed when the application has read it.
    """
    wire.reset()
    response = await request
    words = {statement.split()[0].upper() for statement in wire.statements if statement.strip()}
    assert not words & {"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "SET", "DISCARD"}
    assert len(wire.statements) <= statements
    return Run(response.status_code, wire.round_trips, wire.prepares)


def assert_one_round_trip_each(runs: list[Run]) -> None:
    """One each, but for the single run in the life of a connection that prepares the statement: one more."""
    later = RUNS - PREPARE_AFTER - 1
    assert [run.round_trips for run in runs] == [1] * PREPARE_AFTER + [2] + [1] * later
    assert [run.prepares for run in runs] == [False] * PREPARE_AFTER + [True] + [False] * later


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a statement was compiled")


@each_operation
async def test_each_operation_is_one_round_trip_and_builds_no_statement_twice(
    operation: Operation, watched_client: httpx.AsyncClient, wire: Wire, client: httpx.AsyncClient, alice: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    runs = []
    for number in range(RUNS):
        task = await make_task(client, alice, title=f"Task {number}")
        runs.append(await watch(wire, operation(watched_client, alice, task)))
        monkeypatch.setattr(SQLCompiler, "__init__", refuse)
    assert_one_round_trip_each(runs)
    assert {run.status for run in runs} in ({200}, {201})


@pytest.mark.parametrize("operation", OPERATIONS_ON_THE_TRASH.values(), ids=OPERATIONS_ON_THE_TRASH.keys())
async def test_each_operation_on_the_trash_is_one_round_trip(
    operation: Operation, watched_client: httpx.AsyncClient, wire: Wire, client: httpx.AsyncClient, alice: UUID
) -> None:
    runs = []
    for number in range(RUNS):
        task = await make_task(client, alice, title=f"Task {number}")
        trashed = (await client.delete(f"{alice}/tasks/{task['id']}")).json()
        runs.append(await watch(wire, operation(watched_client, alice, trashed)))
    assert_one_round_trip_each(runs)
    assert {run.status for run in runs} in ({200}, {204})


async def test_a_create_within_a_limit_is_one_round_trip_and_its_refusal_two(
    watched_client: httpx.AsyncClient, wire: Wire, alice: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "USER_TASKS_MAX", RUNS - 1)
    runs = [await watch(wire, OPERATIONS["create"](watched_client, alice, {})) for _ in range(RUNS)]
    assert [run.status for run in runs] == [201] * (RUNS - 1) + [429]
    assert [run.round_trips - run.prepares for run in runs] == [1] * (RUNS - 1) + [2]


async def test_the_next_page_is_one_round_trip(
    watched_client: httpx.AsyncClient, wire: Wire, client: httpx.AsyncClient, alice: UUID
) -> None:
    for title in ("First", "Second", "Third"):
        await make_task(client, alice, title=title)
    first = (await client.get(f"{alice}/tasks", params={"limit": 1})).json()
    next_page = on_tasks("GET", params={"limit": "1", "cursor": first["next_cursor"]})
    assert_one_round_trip_each([await watch(wire, next_page(watched_client, alice, {})) for _ in range(RUNS)])


@pytest.mark.parametrize(
    ("name", "round_trips"),
    [
        ("get", 1), ("put", 1), ("patch", 1), ("delete", 1), ("patch nothing", 1),
        ("put if unchanged", 2), ("patch if unchanged", 2), ("delete if unchanged", 2),
    ],
)  # fmt: skip
async def test_another_owners_task_and_no_task_cost_the_same_messages(
    watched_client: httpx.AsyncClient, wire: Wire, client: httpx.AsyncClient, alice: UUID, bob: UUID, name: str,
    round_trips: int,
) -> None:  # fmt: skip
    bobs = await make_task(client, bob)

    async def messages(task: Json) -> tuple[list[tuple[str, int]], list[str]]:
        wire.reset()
        response = await OPERATIONS[name](watched_client, alice, task)
        assert response.status_code == 404
        return [(kind, len(body)) for kind, body in wire.sent], list(wire.received)

    for _ in range(PREPARE_AFTER + 1):
        # The statements are prepared on the way.
        await messages(bobs)
    assert await messages(bobs) == await messages(bobs | {"id": str(uuid4())})
    assert wire.round_trips == round_trips


@pytest.mark.parametrize("name", ["put if unchanged", "patch if unchanged", "delete if unchanged"])
async def test_a_second_round_trip_only_explains_why_a_write_was_not_done(
    watched_client: httpx.AsyncClient, wire: Wire, client: httpx.AsyncClient, alice: UUID, name: str
) -> None:
    task = await make_task(client, alice)
    wire.reset()
    response = await OPERATIONS[name](watched_client, alice, task | {"version": 2})
    assert (response.status_code, wire.round_trips, len(wire.statements)) == (412, 2, 2)


async def test_a_batch_is_one_round_trip_whatever_is_in_it(
    watched_client: httpx.AsyncClient, wire: Wire, client: httpx.AsyncClient, alice: UUID
) -> None:
    ops, round_trips = ("create", "replace", "patch", "delete", "restore"), list[int]()
    for _ in range(RUNS):
        items = [{"op": op, "id": (await make_task(client, alice))["id"]} for op in ops] + [
            {"op": op, "id": str(uuid4())} | more for op in ops for more in ({}, {"key": "k"}) if op != "create"
        ]
        for item in items:
            if item["op"] in ("create", "replace", "patch"):
                item["title"] = "Changed"
        items += [{"op": "patch", "id": str(uuid4())}, {"op": "patch", "id": 1}]
        for again in (1, None):
            wire.reset()
            if again:
                items[2]["if_version"] = again
            response = await watched_client.post(f"{alice}/tasks/batch", json={"items": items})
            # Preparing takes one of its own, once in the life of a connection.
            prepared = sum(kind == "P" and not body.startswith(b"\0") for kind, body in wire.sent)
            round_trips.append(wire.round_trips - prepared)
            statuses = [result["status"] for result in response.json()["results"]]
            assert set(statuses) == {200, 400, 404, 412}
    assert round_trips == [1] * RUNS * 2

    # What it has written is not read again, to find out why it was not written.
    tasks = [await make_task(client, alice) for _ in range(3)]
    wire.reset()
    known = [{"op": "delete", "id": task["id"], "if_version": task["version"], "key": "k"} for task in tasks]
    await watched_client.post(f"{alice}/tasks/batch", json={"items": known})
    assert wire.received.count("D") == 1 + len(tasks)


async def test_signed_in_an_operation_is_one_round_trip_and_the_first_task_of_a_user_two(
    dsn: Dsn, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Issuer() as issuer:
        async with (
            open_verifier(rules_of(issuer), 30) as verifier,
            watched(dsn, wire, monkeypatch, verifier) as client,
        ):
            signed_in(client, issuer.token())
            wire.reset()
            assert (await client.post("me/tasks", json={"title": "First"})).status_code == 201
            # The create finds no owner; then the owner and the task are made, and it is asked if the owner is erased.
            assert (wire.round_trips, len(wire.statements)) == (2, 4)

            runs = [
                await watch(wire, request, statements)
                for request, statements in (
                    (client.post("me/tasks", json={"title": "Second"}), 1),
                    (client.get("me/tasks"), 1),
                    (client.get("v1/me"), 1),
                    (client.delete("v1/me"), 3),
                )
            ]
    assert runs == [Run(status, 1, prepares=False) for status in (201, 200, 200, 204)]


async def test_invalid_input_and_live_never_reach_the_database(
    watched_client: httpx.AsyncClient, wire: Wire, alice: UUID
) -> None:
    wire.reset()
    assert (await watched_client.post(f"{alice}/tasks", json={"title": ""})).status_code == 400
    assert (await watched_client.get(f"{alice}/tasks", params={"limit": 0})).status_code == 400
    assert (await watched_client.get("not-a-uuid/tasks")).status_code == 400
    assert (await watched_client.get("v1/live")).status_code == 200
    assert not wire.sent


@pytest.mark.plain("has no shards to ask for")
async def test_health_is_one_round_trip_that_prepares_nothing(watched_client: httpx.AsyncClient, wire: Wire) -> None:
    runs = [await watch(wire, watched_client.get("v1/health")) for _ in range(RUNS)]
    assert runs == [Run(200, 1, prepares=False)] * RUNS
