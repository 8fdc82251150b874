"""Replacing: PUT /api/{user_id}/tasks/{task_id}. `test_bodies.py` has what it has in common with the other writes."""

from uuid import UUID, uuid4

from tests.api.test_bodies import VALUES
from tests.support.contract import NULLABLE
from tests.support.helpers import Client, address, assert_problem, get_task, make_task


async def test_what_is_left_out_goes_to_its_default(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, **VALUES | {"status": "completed", "completed": True})
    other = await make_task(client, alice, title="Other")
    response = await client.put(address(task), json={"title": "Buy bread"})

    assert response.status_code == 200
    changed = response.json()
    assert changed == task | dict.fromkeys(NULLABLE) | {
        "title": "Buy bread",
        "status": "pending",
        "completed": False,
        "priority": "medium",
        "tags": [],
        "completed_at": None,
        "updated_at": changed["updated_at"],
        "version": changed["version"],
    }
    assert changed["version"] > task["version"]
    assert changed["updated_at"] > task["updated_at"]
    assert await get_task(client, task) == changed
    assert await get_task(client, other) == other
    assert_problem(await client.put(address(task), json={"priority": "low"}), 400, "invalid-input", "title")


async def test_the_same_request_twice_gives_the_same_task(client: Client, alice: UUID) -> None:
    task, body = await make_task(client, alice), {"title": "Buy bread", "completed": True}
    first = (await client.put(address(task), json=body)).json()
    second = (await client.put(address(task), json=body)).json()

    assert second == first | {"updated_at": second["updated_at"], "version": second["version"]}
    assert second["version"] > first["version"]


async def test_it_never_creates(client: Client, alice: UUID) -> None:
    for user in (alice, uuid4()):
        assert_problem(await client.put(f"{user}/tasks/{uuid4()}", json={"title": "x"}), 404, "task-not-found")
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []
