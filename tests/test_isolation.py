"""What belongs to one user does not exist for another (D26)."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.helpers import address, assert_problem, get_task, make_task

METHODS: list[tuple[str, Any]] = [
    ("GET", None),
    ("PUT", {"title": "Mine now"}),
    ("PATCH", {"title": "Mine now"}),
    ("PATCH", {"description": None, "completed": True}),
    ("PATCH", {}),
    ("DELETE", None),
]


def _visible(response: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that a client can see, but for what differs between any two answers."""
    headers = [(name, value) for name, value in response.headers.items() if name not in ("x-request-id", "date")]
    return response.status_code, response.content, headers


@pytest.mark.parametrize(("method", "body"), METHODS)
async def test_somebody_elses_task_looks_like_none_to_the_byte(
    client: httpx.AsyncClient, alice: UUID, bob: UUID, method: str, body: Any
) -> None:
    bobs = await make_task(client, bob, tags=["secret"])
    foreign = await client.request(method, f"{alice}/tasks/{bobs['id']}", json=body)
    missing = await client.request(method, f"{alice}/tasks/{uuid4()}", json=body)

    assert_problem(foreign, 404, "task-not-found")
    assert _visible(foreign) == _visible(missing)
    assert await get_task(client, bobs) == bobs


@pytest.mark.parametrize(("method", "body"), METHODS)
async def test_a_wrong_body_tells_nothing_either(
    client: httpx.AsyncClient, alice: UUID, bob: UUID, method: str, body: Any
) -> None:
    bobs = await make_task(client, bob)
    wrong = {"title": 7} if body is not None else None
    foreign = await client.request(method, f"{alice}/tasks/{bobs['id']}", json=wrong)
    missing = await client.request(method, f"{alice}/tasks/{uuid4()}", json=wrong)

    assert _visible(foreign) == _visible(missing)


async def test_it_hides_bobs_tasks_from_alices_list(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    hers = await make_task(client, alice)
    his = await make_task(client, bob)

    assert (await client.get(f"{alice}/tasks")).json()["items"] == [hers]
    assert (await client.get(f"{bob}/tasks")).json()["items"] == [his]


async def test_both_may_change_tasks_of_the_same_title(client: httpx.AsyncClient, alice: UUID, bob: UUID) -> None:
    hers, his = await make_task(client, alice), await make_task(client, bob)
    await client.patch(address(hers), json={"completed": True})
    await client.delete(address(hers))

    assert await get_task(client, his) == his
