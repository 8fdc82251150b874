"""Deleting: DELETE /api/{user_id}/tasks/{task_id}."""

from uuid import UUID, uuid4

import httpx

from tests.support.helpers import address, assert_problem, get_task, make_task


async def test_it_answers_with_the_task_as_it_was(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, description="Two litres", tags=["food"], completed=True)
    response = await client.delete(address(task))

    assert response.status_code == 200
    assert response.json() == task


async def test_a_deleted_task_is_gone(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    await client.delete(address(task))

    assert_problem(await client.get(address(task)), 404, "task-not-found")
    assert_problem(await client.delete(address(task)), 404, "task-not-found")
    assert (await client.get(f"{alice}/tasks")).json()["items"] == []


async def test_it_leaves_the_other_tasks(client: httpx.AsyncClient, alice: UUID) -> None:
    task, other = await make_task(client, alice), await make_task(client, alice)
    await client.delete(address(task))

    assert await get_task(client, other) == other


async def test_the_answer_is_enough_to_undo(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, description="Two litres", tags=["food"], priority="low", status="completed")
    deleted = (await client.delete(address(task))).json()
    writable = ("title", "description", "status", "priority", "due_date", "tags")
    restored = await make_task(client, alice, **{name: deleted[name] for name in writable})

    assert {name: restored[name] for name in writable} == {name: task[name] for name in writable}


async def test_a_task_of_an_unknown_user_is_not_found(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)

    assert_problem(await client.delete(f"{uuid4()}/tasks/{task['id']}"), 404, "task-not-found")
    assert await get_task(client, task) == task
