"""Creating once, however often it is sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.helpers import Json, address, assert_problem, make_task

BODY: Json = {"title": "Buy milk", "tags": ["home"], "priority": "high"}


async def create(
    client: httpx.AsyncClient, user: UUID, key: str | None = None, body: Any = BODY, **values: Any
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"{user}/tasks", json=body | values, headers=headers)


async def count(client: httpx.AsyncClient, user: UUID) -> int:
    total: int = (await client.get(f"{user}/tasks/summary")).json()["total"]
    return total


async def test_the_same_key_creates_one_task(client: httpx.AsyncClient, alice: UUID) -> None:
    first = await create(client, alice, "order-1")
    again = await create(client, alice, "order-1")

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    for name in ("Location", "ETag"):
        assert again.headers[name] == first.headers[name]
    assert await count(client, alice) == 1


async def test_the_same_id_creates_one_task(client: httpx.AsyncClient, alice: UUID) -> None:
    task_id = str(uuid4())
    first = await create(client, alice, id=task_id)
    again = await create(client, alice, id=task_id.upper())

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == task_id
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await count(client, alice) == 1


async def test_without_a_key_or_an_id_each_request_creates_a_task(client: httpx.AsyncClient, alice: UUID) -> None:
    assert [(await create(client, alice)).status_code for _ in range(3)] == [201] * 3
    assert await count(client, alice) == 3


async def test_other_keys_create_other_tasks(client: httpx.AsyncClient, alice: UUID) -> None:
    keys = ["a", "A", '"a"', "a" * 255, str(uuid4()), "!~"]
    ids = {(await create(client, alice, key)).json()["id"] for key in keys}

    assert len(ids) == len(keys)


async def test_the_same_key_of_another_user_is_another_key(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    hers, his = await create(client, alice, "1"), await create(client, bob, "1")

    assert (hers.status_code, his.status_code) == (201, 201)
    assert hers.json()["id"] != his.json()["id"]


async def test_a_repeat_shows_the_task_as_it_is_now_and_changes_nothing(client: httpx.AsyncClient, alice: UUID) -> None:
    task = (await create(client, alice, "1")).json()
    changed = (await client.patch(address(task), json={"title": "Buy bread", "completed": True})).json()
    again = await create(client, alice, "1", title="Something else")

    assert (again.status_code, again.json()) == (200, changed)
    assert (await client.get(address(task))).json() == changed


async def test_a_repeat_after_the_task_was_deleted_creates_it_anew(client: httpx.AsyncClient, alice: UUID) -> None:
    task = (await create(client, alice, "1")).json()
    await client.delete(address(task))
    again = await create(client, alice, "1")

    assert again.status_code == 201
    assert again.json()["id"] == task["id"]


async def test_a_deleted_task_can_be_restored_under_its_id(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, **BODY)
    deleted = (await client.delete(address(task))).json()
    restored = await create(client, alice, body={name: deleted[name] for name in ("id", "title", "priority", "tags")})

    assert restored.status_code == 201
    same = ("id", "title", "priority", "tags", "status")
    assert {name: restored.json()[name] for name in same} == {name: task[name] for name in same}


async def test_an_id_of_somebody_else_is_a_conflict_that_reveals_nothing(
    client: httpx.AsyncClient, alice: UUID, bob: UUID
) -> None:
    bobs = await make_task(client, bob, title="A secret", tags=["secret"])
    response = await create(client, alice, id=bobs["id"])

    assert_problem(response, 409, "conflict")
    assert "ecret" not in response.text
    assert str(bob) not in response.text
    assert "ETag" not in response.headers
    assert (await client.get(address(bobs))).json() == bobs
    assert await count(client, alice) == 0


async def test_nobody_gets_a_task_by_a_key_or_an_id(client: httpx.AsyncClient) -> None:
    assert_problem(await create(client, uuid4(), "1"), 404, "user-not-found")
    assert_problem(await create(client, uuid4(), id=str(uuid4())), 404, "user-not-found")


async def test_a_key_and_an_id_together_are_refused(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await create(client, alice, "1", id=str(uuid4()))

    assert_problem(response, 400, "invalid-input", "Idempotency-Key")
    assert await count(client, alice) == 0


async def test_a_taken_id_tells_a_user_who_does_not_exist_nothing(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    taken, free = await create(client, uuid4(), id=task["id"]), await create(client, uuid4(), id=str(uuid4()))

    assert_problem(taken, 404, "user-not-found")
    assert taken.content == free.content


async def test_two_keys_are_none(client: httpx.AsyncClient, alice: UUID) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await client.post(f"{alice}/tasks", json=BODY, headers=headers)

    assert_problem(response, 400, "invalid-input", "Idempotency-Key")


@pytest.mark.parametrize("key", ["", " ", "a b", "a,b", "a\tb", "x" * 256, "caf\xe9", "\x7f", "\x01"])
async def test_it_refuses_what_is_no_key(client: httpx.AsyncClient, alice: UUID, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    response = await client.post(f"{alice}/tasks", json=BODY, headers=headers)

    assert_problem(response, 400, "invalid-input", "Idempotency-Key")


@pytest.mark.parametrize("task_id", ["", "1", None, 1, "3fa85f6457174562b3fc2c963f66afa6", [], "\0"])
async def test_it_refuses_what_is_no_id(client: httpx.AsyncClient, alice: UUID, task_id: Any) -> None:
    assert_problem(await create(client, alice, id=task_id), 400, "invalid-input", "id")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_an_id_cannot_be_changed(client: httpx.AsyncClient, alice: UUID, method: str) -> None:
    task = await make_task(client, alice)
    response = await client.request(method, address(task), json={"title": "x", "id": task["id"]})

    assert_problem(response, 400, "invalid-input", "id")


async def test_a_repeat_that_comes_after_the_due_date_is_a_repeat_all_the_same(
    client: httpx.AsyncClient, alice: UUID
) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=300)
    first = await create(client, alice, "1", due_date=soon.isoformat())
    await asyncio.sleep(0.35)
    again = await create(client, alice, "1", due_date=soon.isoformat())
    another = await create(client, alice, "2", due_date=soon.isoformat())

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert_problem(another, 400, "invalid-input", "due_date")
