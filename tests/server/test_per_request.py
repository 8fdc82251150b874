"""No request uses a thread or costs the pool a connection: either would cost more than the request itself."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from persistence.postgres import pool
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.opening import APPLICATION_NAME
from tests.conftest import client_of
from tests.database.helpers import eventually, new_user, options
from tests.database.test_wire import Operation, each_operation
from tests.support.databases import as_owner
from tests.support.helpers import address, make_task

CONNECTIONS = 4
CLIENTS = 12


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails code that starts a thread or hands something to one."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread was used")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)


@each_operation
async def test_an_operation_uses_no_thread(
    operation: Operation, client: httpx.AsyncClient, alice: UUID, no_threads: None
) -> None:
    assert (await operation(client, alice, await make_task(client, alice))).status_code in (200, 201)


async def test_no_other_answer_uses_a_thread(client: httpx.AsyncClient, no_threads: None) -> None:
    requests = {
        "GET v1/live": 200, "HEAD v1/live": 200, "OPTIONS v1/live": 204, "DELETE v1/live": 405, "GET nowhere": 404,
        "GET nobody/tasks": 400, "GET docs": 200, "GET openapi.json": 200,
    }  # fmt: skip
    headers = {"Origin": "http://localhost:3000"}
    answers = {request: await client.request(*request.split(), headers=headers) for request in requests}

    assert {request: answer.status_code for request, answer in answers.items()} == requests


async def _use(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> set[int]:
    """The statuses of the answers to what a client may do, and to what PostgreSQL or the API refuses."""
    task = await make_task(client, alice)
    answers = [
        await client.get(address(task)),
        await client.get(f"{alice}/tasks", params={"limit": 1, "status": "pending"}),
        await client.get(f"{alice}/tasks/summary"),
        await client.get(f"{alice}/tasks", params={"limit": 0}),
        await client.post(f"{alice}/tasks", json={"title": "Again", "id": task["id"]}),
        await client.post(f"{bob}/tasks", json={"title": "The same id", "id": task["id"]}),
        await client.post(f"{uuid4()}/tasks", json={"title": "No user"}),
        await client.patch(address(task), json={"completed": True}, headers={"If-Match": '"1"'}),
        await client.patch(address(task), json={"completed": True}),
        await client.delete(address(task)),
        await client.delete(address(task)),
        await client.post(f"{alice}/tasks", json={"title": "Deleted", "id": task["id"]}),
        await client.get(f"{alice}/trash", params={"limit": 1}),
        await client.post(f"{alice}/trash/{task['id']}/restore", headers={"Idempotency-Key": "k"}),
        await client.post(f"{alice}/trash/{task['id']}/restore", headers={"Idempotency-Key": "k"}),
        await client.get(f"{alice}/tasks/changes", params={"cursor": "x"}),
        await client.get(f"{alice}/tasks/changes", params={"limit": 1}),
        await client.post(
            f"{alice}/tasks/batch",
            json={"items": [{"op": "delete", "id": task["id"]}, {"op": "patch", "id": str(uuid4()), "title": 7}]},
        ),
        await client.delete(f"{alice}/trash/{task['id']}"),
        await client.delete(f"{alice}/trash"),
    ]
    return {answer.status_code for answer in answers}


async def test_no_answer_costs_a_connection(migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    # A check that a busy machine makes time out would cost a connection.
    monkeypatch.setattr(pool, "CHECK_AFTER_IDLE", 3600.0)
    query = (
        "SELECT pid, backend_start FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
    )
    async with (
        open_database(migrated_dsn, options(CONNECTIONS, CONNECTIONS)) as database,
        client_of(database) as client,
    ):
        alice, bob = await new_user(database), await new_user(database)
        await eventually(lambda: database.pool.stats.idle == CONNECTIONS)
        with psycopg.connect(as_owner(migrated_dsn).conninfo, autocommit=True) as connection:
            at_first = set(connection.execute(query, [APPLICATION_NAME]))
            statuses = await asyncio.gather(*(_use(client, alice, bob) for _ in range(CLIENTS)))

            assert len(at_first) == CONNECTIONS
            assert set(connection.execute(query, [APPLICATION_NAME])) == at_first
    assert set.union(*statuses) == {200, 201, 204, 400, 404, 409, 412}
