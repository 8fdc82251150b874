"""Reading: GET /api/{user_id}/tasks/{task_id}."""

from uuid import UUID, uuid4

from tests.support.helpers import Client, Json, address, make_task


async def test_it_shows_a_task_as_it_was_created(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, description="Two litres", tags=["food"], due_date="2999-01-01T00:00:00Z")
    response = await client.get(address(task))

    assert response.status_code == 200
    assert response.json() == task


async def test_a_client_may_keep_a_task_and_no_other_answer(client: Client, alice: UUID, task: Json) -> None:
    others = [
        await client.get(f"{alice}/tasks"),
        await client.get(f"{alice}/tasks/summary"),
        await client.get(f"{alice}/tasks/{uuid4()}"),
        await client.patch(address(task), json={"title": "Buy bread"}),
    ]

    assert (await client.get(address(task))).headers["Cache-Control"] == "private, no-cache"
    others.append(await client.delete(address(task)))
    assert {answer.headers["Cache-Control"] for answer in others} == {"no-store"}
