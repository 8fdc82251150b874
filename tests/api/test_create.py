"""Creating: POST /api/{user_id}/tasks."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from persistence import tasks
from persistence.postgres.database import Database
from tests.support.helpers import assert_problem, get_task, make_task, send


async def test_it_creates_a_task_with_defaults(client: httpx.AsyncClient, alice: UUID) -> None:
    before = datetime.now(UTC)
    response = await client.post(f"{alice}/tasks", json={"title": "  Buy milk "})

    assert response.status_code == 201
    task = response.json()
    assert response.headers["Location"] == f"/api/{alice}/tasks/{task['id']}"
    assert UUID(task["id"]).version == 4
    created_at = datetime.fromisoformat(task["created_at"])
    assert before - timedelta(seconds=5) < created_at < datetime.now(UTC) + timedelta(seconds=5)
    assert task == {
        "id": task["id"],
        "user_id": str(alice),
        "title": "Buy milk",
        "description": None,
        "status": "pending",
        "completed": False,
        "priority": "medium",
        "due_date": None,
        "tags": [],
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
        "completed_at": None,
        "version": round(created_at.timestamp() * 1_000_000),
    }


async def test_it_stores_every_value(client: httpx.AsyncClient, alice: UUID) -> None:
    values = {
        "title": "Buy milk",
        "description": " Two litres,\nif there are any. ",
        "status": "pending",
        "priority": "high",
        "due_date": "2999-12-31T23:30:00Z",
        "tags": ["home", "food"],
    }
    task = await make_task(client, alice, **values)

    assert task == task | values
    assert await get_task(client, task) == task


async def test_the_location_leads_to_the_task(client: httpx.AsyncClient, alice: UUID) -> None:
    created = await client.post(f"{alice}/tasks", json={"title": "Buy milk"})
    found = await client.get(f"http://test{created.headers['Location']}")

    assert found.json() == created.json()


@pytest.mark.parametrize("values", [{"status": "completed"}, {"completed": True}])
async def test_a_task_can_be_born_completed(client: httpx.AsyncClient, alice: UUID, values: dict[str, Any]) -> None:
    task = await make_task(client, alice, **values)

    assert (task["status"], task["completed"]) == ("completed", True)
    assert task["completed_at"] == task["created_at"]


@pytest.mark.parametrize(
    ("status", "completed"),
    [("pending", False), ("completed", True)],
)
async def test_status_and_completed_may_agree(
    client: httpx.AsyncClient, alice: UUID, status: str, *, completed: bool
) -> None:
    task = await make_task(client, alice, status=status, completed=completed)

    assert (task["status"], task["completed"]) == (status, completed)


@pytest.mark.parametrize(("status", "completed"), [("pending", True), ("completed", False)])
async def test_status_and_completed_may_not_contradict_each_other(
    client: httpx.AsyncClient, alice: UUID, status: str, *, completed: bool
) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "x", "status": status, "completed": completed})

    problem = assert_problem(response, 400, "invalid-input", "body")
    assert "both" in problem["errors"][0]["detail"]


async def test_two_tasks_may_have_the_same_title(client: httpx.AsyncClient, alice: UUID) -> None:
    first = await make_task(client, alice, title="Buy milk")
    second = await make_task(client, alice, title="Buy milk")

    assert first["title"] == second["title"]
    assert first["id"] != second["id"]


async def test_it_refuses_a_due_date_in_the_past(client: httpx.AsyncClient, alice: UUID) -> None:
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk", "due_date": past})

    problem = assert_problem(response, 400, "invalid-input", "due_date")
    assert "past" in problem["errors"][0]["detail"]
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


async def test_a_due_date_is_answered_in_utc(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, due_date="2999-06-01T01:30:00.25+02:00")

    assert task["due_date"] == "2999-05-31T23:30:00.250000Z"


async def test_it_refuses_an_unknown_user(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{uuid4()}/tasks", json={"title": "Buy milk"})

    assert_problem(response, 404, "user-not-found")


@pytest.mark.parametrize("user_id", ["", "null", "undefined", "%20", "0", "me"])
async def test_it_refuses_a_user_id_that_is_none(client: httpx.AsyncClient, user_id: str) -> None:
    response = await client.post(f"http://test/api/{user_id}/tasks", json={"title": "Buy milk"})

    assert_problem(response, 400, "invalid-input", "user_id")


@pytest.mark.parametrize("user_id", [None, ""])
async def test_the_owner_is_named_by_the_path_alone(
    client: httpx.AsyncClient, alice: UUID, user_id: str | None
) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk", "user_id": user_id})

    assert_problem(response, 400, "invalid-input", "user_id")


@pytest.mark.parametrize("field", ["id", "user_id", "created_at", "updated_at", "completed_at", "titel", "", "a.b"])
async def test_it_refuses_fields_that_a_client_cannot_set(client: httpx.AsyncClient, alice: UUID, field: str) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk", field: None})

    assert response.status_code == 400
    assert len(response.json()["errors"]) == 1


@pytest.mark.parametrize("field", ["title", "status", "completed", "priority", "tags"])
async def test_it_refuses_null_for_what_cannot_be_empty(client: httpx.AsyncClient, alice: UUID, field: str) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk", field: None})

    assert_problem(response, 400, "invalid-input", field)


async def test_it_names_every_fault_at_once(client: httpx.AsyncClient, alice: UUID) -> None:
    values = {
        "title": " ",
        "description": "x" * 1001,
        "status": "done",
        "completed": 1,
        "priority": "urgent",
        "due_date": "tomorrow",
        "tags": ["ok", "x" * 11, "fine", 7],
        "colour": "red",
    }
    response = await client.post(f"{alice}/tasks", json=values)

    document = response.json()
    assert response.status_code == 400
    assert sorted(error["field"] for error in document["errors"]) == [
        "colour",
        "completed",
        "description",
        "due_date",
        "priority",
        "status",
        "tags.1",
        "tags.3",
        "title",
    ]


async def test_a_refused_task_leaves_nothing_behind(client: httpx.AsyncClient, alice: UUID) -> None:
    await client.post(f"{alice}/tasks", json={"title": ""})

    assert (await client.get(f"{alice}/tasks")).json() == {"items": [], "next_cursor": None}


async def test_an_id_that_exists_already_is_a_conflict(
    client: httpx.AsyncClient, alice: UUID, bob: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await make_task(client, alice)
    monkeypatch.setattr(tasks, "uuid4", lambda: UUID(task["id"]))
    response = await client.post(f"{bob}/tasks", json={"title": "Mine"})

    assert_problem(response, 409, "conflict")
    assert await get_task(client, task) == task


async def test_a_user_who_is_deleted_takes_the_tasks_along(
    client: httpx.AsyncClient, database: Database, alice: UUID, bob: UUID
) -> None:
    await make_task(client, alice)
    bobs = await make_task(client, bob)
    async with database.connection() as connection:
        await connection.execute("DELETE FROM users WHERE id = %s", (alice,))

    assert (await client.get(f"{alice}/tasks")).json()["items"] == []
    assert_problem(await client.post(f"{alice}/tasks", json={"title": "Late"}), 404, "user-not-found")
    assert await get_task(client, bobs) == bobs


@pytest.mark.parametrize("title", ["'; DROP TABLE tasks; --", "%s %(title)s {title} :title $1", "\\", '"', "\\x00"])
async def test_text_is_data_and_never_sql(client: httpx.AsyncClient, alice: UUID, title: str) -> None:
    task = await make_task(client, alice, title=title, description=title)

    assert (task["title"], task["description"]) == (title, title)


async def test_the_media_type_may_name_a_charset(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.post(
        f"{alice}/tasks",
        content=json.dumps({"title": "Buy milk"}),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )

    assert response.status_code == 201


async def test_an_empty_body_lacks_its_content(client: httpx.AsyncClient, alice: UUID) -> None:
    assert_problem(await send(client, "POST", f"{alice}/tasks", b""), 400, "invalid-input", "body")
