"""Creating once, however often it is sent."""

from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from tests.support.helpers import Client, Json, Response, address, assert_problem

BODY: Json = {"title": "Buy milk", "tags": ["home"], "priority": "high"}


async def create(client: Client, user: UUID, key: str | None = None, **values: Any) -> Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"{user}/tasks", json=BODY | values, headers=headers)


async def count(client: Client, user: UUID) -> int:
    total: int = (await client.get(f"{user}/tasks/summary")).json()["total"]
    return total


@pytest.mark.parametrize("by", ["key", "id"])
async def test_the_same_key_or_id_creates_one_task(client: Client, alice: UUID, by: str) -> None:
    task_id = str(uuid4())
    key, values = ("order-1", {}) if by == "key" else (None, {"id": task_id})
    first = await create(client, alice, key, **values)
    again = await create(client, alice, key, **{name: value.upper() for name, value in values.items()})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert first.json() | values == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    for name in ("Location", "ETag"):
        assert again.headers[name] == first.headers[name]
    assert await count(client, alice) == 1


async def test_other_keys_create_other_tasks(client: Client, alice: UUID) -> None:
    keys = ["a", "A", '"a"', "a" * 255, str(uuid4()), "!~"]
    ids = {(await create(client, alice, key)).json()["id"] for key in keys}

    assert len(ids) == len(keys)


async def test_the_same_key_of_two_users_never_meets(client: Client, alice: UUID, bob: UUID) -> None:
    hers, his = await create(client, alice, "1"), await create(client, bob, "1", title="Buy bread")

    assert (hers.status_code, his.status_code) == (201, 201)
    for user, first in ((alice, hers), (bob, his)):
        again = await create(client, user, "1")
        assert (again.status_code, again.json()) == (200, first.json())
        assert await count(client, user) == 1


async def test_nobody_can_occupy_the_key_of_another_user(client: Client, alice: UUID, bob: UUID) -> None:
    # Bob may know the id that Alice's key stands for.
    his = await create(client, bob, id=str(uuid5(alice, "1")), title="Buy bread")
    hers = await create(client, alice, "1")

    assert (his.status_code, hers.status_code) == (201, 201)
    assert hers.json()["id"] == his.json()["id"]
    assert (await client.get(address(his.json()))).json() == his.json()


@pytest.mark.parametrize("late", [{}, {"due_date": "2001-01-01T00:00:00Z"}], ids=["", "late"])
async def test_a_repeat_does_not_bring_back_what_was_deleted(client: Client, alice: UUID, late: Json) -> None:
    task = (await create(client, alice, "1")).json()
    await client.delete(address(task))

    for again in (await create(client, alice, "1", **late), await create(client, alice, id=task["id"], **late)):
        assert_problem(again, 409, "task-deleted")
    assert_problem(await client.get(address(task)), 404, "task-not-found")
    assert await count(client, alice) == 0


async def test_a_repeat_shows_the_task_as_it_is_now_and_changes_nothing(client: Client, alice: UUID) -> None:
    task = (await create(client, alice, "1")).json()
    changed = (await client.patch(address(task), json={"title": "Buy bread", "completed": True})).json()
    again = await create(client, alice, "1", title="Something else")

    assert (again.status_code, again.json()) == (200, changed)
    assert (await client.get(address(task))).json() == changed


async def test_a_repeat_that_comes_after_the_due_date_is_a_repeat_all_the_same(client: Client, alice: UUID) -> None:
    past = "2001-01-01T00:00:00Z"
    task = (await create(client, alice, "1")).json()
    await client.patch(address(task), json={"due_date": past})
    again = await create(client, alice, "1", due_date=past)

    assert (again.status_code, again.json()["due_date"]) == (200, past)
    assert_problem(await create(client, alice, "2", due_date=past), 400, "invalid-input", "due_date")


async def test_a_key_and_an_id_together_are_refused(client: Client, alice: UUID) -> None:
    response = await create(client, alice, "1", id=str(uuid4()))

    assert_problem(response, 400, "invalid-input", "Idempotency-Key")
    assert await count(client, alice) == 0


async def test_it_refuses_what_is_not_a_key(client: Client, alice: UUID) -> None:
    for key in ("", " ", "a b", "a,b", "a\tb", "x" * 256, "caf\xe9", "\x7f", "\x01"):
        headers = [(b"Idempotency-Key", key.encode("latin-1"))]
        response = await client.post(f"{alice}/tasks", json=BODY, headers=headers)
        assert_problem(response, 400, "invalid-input", "Idempotency-Key")
    two = await client.post(f"{alice}/tasks", json=BODY, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert_problem(two, 400, "invalid-input", "Idempotency-Key")


@pytest.mark.parametrize("path", ["tasks/batch", "import"])
async def test_it_refuses_a_key_for_what_makes_many_changes(client: Client, alice: UUID, path: str) -> None:
    body = {"items": [{"op": "create", "id": str(uuid4()), "title": "Buy milk"}]}
    response = await client.post(f"{alice}/{path}", json=body, headers={"Idempotency-Key": "a"})

    assert_problem(response, 400, "invalid-input", "Idempotency-Key")
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []
