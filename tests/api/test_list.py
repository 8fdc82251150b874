"""Listing: GET /api/{user_id}/tasks."""

from typing import Any
from uuid import UUID, uuid4

from persistence.postgres.database import Database
from tests.support.helpers import Client, Json, address, make_task, make_tasks


async def page(client: Client, user: UUID, **query: Any) -> Json:
    response = await client.get(f"{user}/tasks", params=query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


async def test_a_new_user_and_an_unknown_user_have_no_tasks(client: Client, alice: UUID) -> None:
    assert await page(client, alice) == await page(client, uuid4()) == {"items": [], "next_cursor": None}


async def test_the_newest_comes_first_and_a_change_does_not_move_a_task(client: Client, alice: UUID) -> None:
    made = [await make_task(client, alice, title=f"Task {number}") for number in range(3)]
    assert await page(client, alice) == {"items": made[::-1], "next_cursor": None}

    await client.patch(address(made[0]), json={"title": "Changed"})
    assert [item["id"] for item in (await page(client, alice))["items"]] == [task["id"] for task in made[::-1]]


async def test_it_lists_100_unless_told_otherwise_and_500_at_most(client: Client, owner: Database, alice: UUID) -> None:
    await make_tasks(owner, alice, 501)
    for size, query in ((100, {}), (500, {"limit": 500})):
        first = await page(client, alice, **query)
        assert len(first["items"]) == size
        assert first["next_cursor"]


async def test_a_last_page_that_is_full_has_no_next(client: Client, owner: Database, alice: UUID) -> None:
    await make_tasks(owner, alice, 4)

    assert (await page(client, alice, limit=4))["next_cursor"] is None
    second = await page(client, alice, limit=2, cursor=(await page(client, alice, limit=2))["next_cursor"])
    assert len(second["items"]) == 2
    assert second["next_cursor"] is None
