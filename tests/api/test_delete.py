"""Deleting: DELETE /api/{user_id}/tasks/{task_id}."""

from uuid import UUID

from tests.support.helpers import Client, address, assert_problem, get_task, make_task


async def test_it_answers_with_the_task_in_its_new_version(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, description="Two litres", tags=["food"], priority="low", completed=True)
    response = await client.delete(address(task))

    assert response.status_code == 200
    deleted = response.json()
    times = {name: deleted[name] for name in ("version", "updated_at", "deleted_at")}
    assert deleted == task | times
    assert deleted["version"] > task["version"]
    assert deleted["deleted_at"] == deleted["updated_at"] > task["updated_at"]
    assert response.headers["ETag"] == f'"{deleted["version"]}"'


async def test_a_deleted_task_is_gone_and_the_others_stay(client: Client, alice: UUID) -> None:
    task, other = await make_task(client, alice), await make_task(client, alice)
    await client.delete(address(task))

    assert_problem(await client.get(address(task)), 404, "task-not-found")
    assert_problem(await client.delete(address(task)), 404, "task-not-found")
    assert (await client.get(f"{alice}/tasks")).json()["items"] == [other]
    assert await get_task(client, other) == other
