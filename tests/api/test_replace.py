"""Replacing: PUT /api/{user_id}/tasks/{task_id}."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.helpers import address, assert_problem, get_task, make_task

FULL = {
    "title": "Buy milk",
    "description": "Two litres",
    "status": "completed",
    "priority": "high",
    "due_date": "2999-01-01T00:00:00Z",
    "tags": ["food"],
}


async def test_it_replaces_every_value(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    response = await client.put(address(task), json=FULL)

    assert response.status_code == 200
    changed = response.json()
    assert changed == task | FULL | {
        "completed": True,
        "completed_at": changed["updated_at"],
        "updated_at": changed["updated_at"],
        "version": task["version"] + 1,
    }
    assert changed["updated_at"] > task["updated_at"]
    assert await get_task(client, task) == changed


async def test_what_is_left_out_goes_to_its_default(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, **FULL)
    changed = (await client.put(address(task), json={"title": "Buy bread"})).json()

    assert changed == task | {
        "title": "Buy bread",
        "description": None,
        "status": "pending",
        "completed": False,
        "priority": "medium",
        "due_date": None,
        "tags": [],
        "completed_at": None,
        "updated_at": changed["updated_at"],
        "version": task["version"] + 1,
    }


async def test_the_same_request_twice_gives_the_same_task(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    first = (await client.put(address(task), json=FULL)).json()
    second = (await client.put(address(task), json=FULL)).json()

    assert second == first | {"updated_at": second["updated_at"], "version": first["version"] + 1}
    assert second["completed_at"] == first["completed_at"]


@pytest.mark.parametrize(
    ("values", "completed"),
    [({"completed": True}, True), ({"status": "completed"}, True), ({"completed": False}, False), ({}, False)],
)
async def test_completed_is_another_way_to_say_status(
    client: httpx.AsyncClient, alice: UUID, values: dict[str, Any], *, completed: bool
) -> None:
    task = await make_task(client, alice)
    changed = (await client.put(address(task), json={"title": "Buy milk"} | values)).json()

    assert changed["completed"] is completed
    assert changed["status"] == ("completed" if completed else "pending")
    assert (changed["completed_at"] is not None) is completed


async def test_status_and_completed_may_not_contradict_each_other(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    response = await client.put(address(task), json={"title": "x", "status": "pending", "completed": True})

    assert_problem(response, 400, "invalid-input", "body")
    assert await get_task(client, task) == task


async def test_a_title_is_required(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)

    assert_problem(await client.put(address(task), json={"priority": "low"}), 400, "invalid-input", "title")


@pytest.mark.parametrize("field", ["title", "status", "completed", "priority", "tags"])
async def test_it_refuses_null_for_what_cannot_be_empty(client: httpx.AsyncClient, alice: UUID, field: str) -> None:
    task = await make_task(client, alice)
    response = await client.put(address(task), json={"title": "Buy milk"} | {field: None})

    assert_problem(response, 400, "invalid-input", field)


@pytest.mark.parametrize("field", ["id", "user_id", "created_at", "updated_at", "completed_at"])
async def test_it_refuses_what_a_client_cannot_set(client: httpx.AsyncClient, alice: UUID, field: str) -> None:
    task = await make_task(client, alice)
    response = await client.put(address(task), json={"title": "Buy milk", field: task[field]})

    assert_problem(response, 400, "invalid-input", field)


async def test_an_overdue_task_stays_editable(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    overdue = {"title": "Buy milk", "due_date": "2001-01-01T00:00:00Z"}

    assert (await client.put(address(task), json=overdue)).json()["due_date"] == "2001-01-01T00:00:00Z"
    again = await client.put(address(task), json=overdue | {"title": "Buy more milk", "completed": True})
    assert again.status_code == 200
    assert again.json()["due_date"] == "2001-01-01T00:00:00Z"


async def test_it_never_creates(client: httpx.AsyncClient, alice: UUID) -> None:
    task_id = uuid4()

    assert_problem(await client.put(f"{alice}/tasks/{task_id}", json={"title": "x"}), 404, "task-not-found")
    assert_problem(await client.put(f"{uuid4()}/tasks/{task_id}", json={"title": "x"}), 404, "task-not-found")
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


async def test_it_touches_no_other_task(client: httpx.AsyncClient, alice: UUID) -> None:
    task, other = await make_task(client, alice), await make_task(client, alice, title="Other")
    await client.put(address(task), json=FULL)

    assert await get_task(client, other) == other
