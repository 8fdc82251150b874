"""Changing: PATCH /api/{user_id}/tasks/{task_id}."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.helpers import address, assert_problem, get_task, make_task

FULL = {
    "title": "Buy milk",
    "description": "Two litres",
    "priority": "high",
    "due_date": "2999-01-01T00:00:00Z",
    "tags": ["food"],
}


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Buy bread"},
        {"description": "One loaf"},
        {"description": ""},
        {"description": None},
        {"priority": "low"},
        {"due_date": "2999-02-02T00:00:00Z"},
        {"due_date": None},
        {"tags": ["home", "food"]},
        {"tags": []},
        {"title": "Buy bread", "description": None, "tags": []},
    ],
)
async def test_it_changes_only_what_was_sent(client: httpx.AsyncClient, alice: UUID, change: dict[str, Any]) -> None:
    task = await make_task(client, alice, **FULL)
    response = await client.patch(address(task), json=change)

    assert response.status_code == 200
    changed = response.json()
    assert changed == task | change | {"updated_at": changed["updated_at"], "version": task["version"] + 1}
    assert changed["updated_at"] > task["updated_at"]
    assert await get_task(client, task) == changed


async def test_an_empty_patch_changes_nothing(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, **FULL, status="completed")
    response = await client.patch(address(task), json={})

    assert response.status_code == 200
    assert response.json() == task


async def test_an_empty_patch_of_no_task_is_not_found(client: httpx.AsyncClient, alice: UUID) -> None:
    assert_problem(await client.patch(f"{alice}/tasks/{uuid4()}", json={}), 404, "task-not-found")


@pytest.mark.parametrize("field", ["title", "status", "completed", "priority", "tags"])
async def test_null_does_not_clear_what_cannot_be_empty(client: httpx.AsyncClient, alice: UUID, field: str) -> None:
    task = await make_task(client, alice, **FULL)

    assert_problem(await client.patch(address(task), json={field: None}), 400, "invalid-input", field)
    assert await get_task(client, task) == task


@pytest.mark.parametrize(
    ("complete", "reopen"),
    [({"status": "completed"}, {"status": "pending"}), ({"completed": True}, {"completed": False})],
)
async def test_completing_and_reopening(
    client: httpx.AsyncClient, alice: UUID, complete: dict[str, Any], reopen: dict[str, Any]
) -> None:
    task = await make_task(client, alice)

    done = (await client.patch(address(task), json=complete)).json()
    assert (done["status"], done["completed"]) == ("completed", True)
    assert done["completed_at"] == done["updated_at"] > task["updated_at"]

    done_again = (await client.patch(address(task), json=complete)).json()
    assert done_again["completed_at"] == done["completed_at"]

    renamed = (await client.patch(address(task), json={"title": "Buy bread"})).json()
    assert (renamed["status"], renamed["completed_at"]) == ("completed", done["completed_at"])

    reopened = (await client.patch(address(task), json=reopen)).json()
    assert (reopened["status"], reopened["completed"], reopened["completed_at"]) == ("pending", False, None)

    completed_later = (await client.patch(address(task), json=complete)).json()
    assert completed_later["completed_at"] > done["completed_at"]


@pytest.mark.parametrize(("status", "completed"), [("pending", True), ("completed", False)])
async def test_status_and_completed_may_not_contradict_each_other(
    client: httpx.AsyncClient, alice: UUID, status: str, *, completed: bool
) -> None:
    task = await make_task(client, alice)
    response = await client.patch(address(task), json={"status": status, "completed": completed})

    assert_problem(response, 400, "invalid-input", "body")
    assert await get_task(client, task) == task


@pytest.mark.parametrize(("status", "completed"), [("pending", False), ("completed", True)])
async def test_status_and_completed_may_agree(
    client: httpx.AsyncClient, alice: UUID, status: str, *, completed: bool
) -> None:
    task = await make_task(client, alice)
    changed = (await client.patch(address(task), json={"status": status, "completed": completed})).json()

    assert (changed["status"], changed["completed"]) == (status, completed)


async def test_an_overdue_task_stays_editable(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    became = await client.patch(address(task), json={"due_date": "2001-01-01T00:00:00Z"})
    assert became.status_code == 200

    renamed = await client.patch(address(task), json={"title": "Buy more milk"})
    assert renamed.status_code == 200
    assert renamed.json()["due_date"] == "2001-01-01T00:00:00Z"


@pytest.mark.parametrize("field", ["id", "user_id", "created_at", "updated_at", "completed_at", "titel"])
async def test_it_refuses_what_a_client_cannot_set(client: httpx.AsyncClient, alice: UUID, field: str) -> None:
    task = await make_task(client, alice)

    assert_problem(await client.patch(address(task), json={field: None}), 400, "invalid-input", field)
    assert await get_task(client, task) == task


async def test_one_fault_stops_the_whole_change(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    response = await client.patch(address(task), json={"title": "Buy bread", "priority": "urgent"})

    assert_problem(response, 400, "invalid-input", "priority")
    assert await get_task(client, task) == task


@pytest.mark.parametrize("body", ["null", "[]", '"title"', "1"])
async def test_a_patch_is_an_object(client: httpx.AsyncClient, alice: UUID, body: str) -> None:
    task = await make_task(client, alice)
    response = await client.patch(address(task), content=body, headers={"Content-Type": "application/json"})

    assert_problem(response, 400, "invalid-input", "body")


async def test_it_reads_the_media_type_of_merge_patches(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, description="Two litres")
    response = await client.patch(
        address(task), content='{"description": null}', headers={"Content-Type": "application/merge-patch+json"}
    )

    assert response.json()["description"] is None


async def test_two_changes_of_different_fields_both_last(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    await client.patch(address(task), json={"title": "Buy bread"})
    await client.patch(address(task), json={"priority": "low"})

    stored = await get_task(client, task)
    assert (stored["title"], stored["priority"]) == ("Buy bread", "low")
