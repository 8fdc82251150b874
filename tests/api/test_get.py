"""Reading: GET /api/{user_id}/tasks/{task_id}."""

from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.helpers import address, assert_problem, make_task


async def test_it_shows_a_task_as_it_was_created(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice, description="Two litres", tags=["food"], due_date="2999-01-01T00:00:00Z")
    response = await client.get(address(task))

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == task


async def test_a_task_that_does_not_exist_is_not_found(client: httpx.AsyncClient, alice: UUID) -> None:
    assert_problem(await client.get(f"{alice}/tasks/{uuid4()}"), 404, "task-not-found")


async def test_a_task_of_an_unknown_user_is_not_found(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)

    assert_problem(await client.get(f"{uuid4()}/tasks/{task['id']}"), 404, "task-not-found")


async def test_ids_may_be_written_in_upper_case(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)

    assert (await client.get(f"{str(alice).upper()}/tasks/{task['id'].upper()}")).json() == task


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "task_id",
    [
        "null",
        "undefined",
        "1",
        "%20",
        "%00",
        "%FF",
        "%F0%9F%98%80",
        "x" * 3000,
        "3fa85f6457174562b3fc2c963f66afa6",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6%0A",
    ],
)
async def test_it_refuses_a_task_id_that_is_none(
    client: httpx.AsyncClient, alice: UUID, method: str, task_id: str
) -> None:
    body = {"title": "Buy milk"} if method in ("PUT", "PATCH") else None
    response = await client.request(method, f"http://test/api/{alice}/tasks/{task_id}", json=body)

    assert_problem(response, 400, "invalid-input", "task_id")


@pytest.mark.parametrize("user_id", ["", "null"])
async def test_it_refuses_a_user_id_that_is_none(client: httpx.AsyncClient, user_id: str) -> None:
    response = await client.get(f"http://test/api/{user_id}/tasks/{uuid4()}")

    assert_problem(response, 400, "invalid-input", "user_id")


async def test_a_client_may_keep_a_task_and_asks_before_using_it_again(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)

    assert (await client.get(address(task))).headers["Cache-Control"] == "private, no-cache"


async def test_nothing_may_keep_any_other_answer(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    answers = [
        await client.get(f"{alice}/tasks"),
        await client.get(f"{alice}/tasks/summary"),
        await client.get(f"{alice}/tasks/{uuid4()}"),
        await client.patch(address(task), json={"title": "Buy bread"}),
        await client.delete(address(task)),
    ]

    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
