"""Creating: POST /api/{user_id}/tasks. `test_bodies.py` has what it has in common with the other writes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.postgres.database import Database
from tests.support.contract import NULLABLE
from tests.support.helpers import Client, assert_problem, get_task, make_task
from tests.support.nodes import is_one_moment


async def test_it_creates_a_task_with_defaults(client: Client, alice: UUID) -> None:
    before = datetime.now(UTC)
    response = await client.post(f"{alice}/tasks", json={"title": "  Buy milk "})

    assert response.status_code == 201
    task = response.json()
    assert UUID(task["id"]).version == 4
    created_at = datetime.fromisoformat(task["created_at"])
    assert before - timedelta(seconds=5) < created_at < datetime.now(UTC) + timedelta(seconds=5)
    assert is_one_moment(datetime.fromtimestamp(task["version"] / 1_000_000, UTC), created_at)
    assert task == task | dict.fromkeys(NULLABLE) | {
        "user_id": str(alice),
        "title": "Buy milk",
        "status": "pending",
        "completed": False,
        "priority": "medium",
        "tags": [],
        "updated_at": task["created_at"],
        "completed_at": None,
    }


async def test_the_location_leads_to_the_task(client: Client, alice: UUID) -> None:
    created = await client.post(f"{alice}/tasks", json={"title": "Buy milk"})
    found = await client.get(f"http://test{created.headers['Location']}")

    assert created.headers["Location"] == f"/api/{alice}/tasks/{created.json()['id']}"
    assert found.json() == created.json()


@pytest.mark.parametrize("values", [{"status": "completed"}, {"completed": True}])
async def test_a_task_can_be_born_completed(client: Client, alice: UUID, values: dict[str, Any]) -> None:
    task = await make_task(client, alice, **values)

    assert task["completed_at"] == task["created_at"]


async def test_two_tasks_may_have_the_same_title(client: Client, alice: UUID) -> None:
    first, second = await make_task(client, alice), await make_task(client, alice)

    assert first["title"] == second["title"]
    assert first["id"] != second["id"]


async def test_it_refuses_a_due_date_in_the_past(client: Client, alice: UUID) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=2)).isoformat()
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk", "due_date": past})

    problem = assert_problem(response, 400, "invalid-input", "due_date")
    assert "past" in problem["errors"][0]["detail"]
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


async def test_it_refuses_an_unknown_user_whatever_the_id_or_the_key(client: Client, alice: UUID) -> None:
    url, taken = f"{uuid4()}/tasks", (await make_task(client, alice))["id"]
    answers = [await client.post(url, json={"title": "x", "id": task_id}) for task_id in (taken, str(uuid4()))]
    answers += [await client.post(url, json={"title": "x"}, headers={"Idempotency-Key": "1"})]

    for answer in answers:
        assert_problem(answer, 404, "user-not-found")
    assert len({answer.content for answer in answers}) == 1


async def test_a_user_who_is_deleted_takes_the_tasks_along(
    client: Client, database: Database, alice: UUID, bob: UUID
) -> None:
    await make_task(client, alice)
    bobs = await make_task(client, bob)
    async with database.connection() as connection:
        await connection.execute("DELETE FROM users WHERE id = %s", (alice,))

    assert (await client.get(f"{alice}/tasks")).json()["items"] == []
    assert_problem(await client.post(f"{alice}/tasks", json={"title": "Late"}), 404, "user-not-found")
    assert await get_task(client, bobs) == bobs
