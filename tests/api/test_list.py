"""Listing: GET /api/{user_id}/tasks."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from persistence.postgres.database import Database
from tests.support.helpers import Json, address, assert_problem, make_task, make_tasks


async def _page(client: httpx.AsyncClient, user: UUID, **query: Any) -> Json:
    response = await client.get(f"{user}/tasks", params=query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


async def _walk(client: httpx.AsyncClient, user: UUID, limit: int) -> list[Json]:
    """All pages, from the first to the last, as one list."""
    page = await _page(client, user, limit=limit)
    items: list[Json] = page["items"]
    while page["next_cursor"]:
        assert len(page["items"]) == limit
        # Every user here has fewer; without this a cursor that stands still would walk for ever.
        assert len(items) < 100
        page = await _page(client, user, limit=limit, cursor=page["next_cursor"])
        items += page["items"]
    return items


async def test_a_new_user_has_no_tasks(client: httpx.AsyncClient, alice: UUID) -> None:
    assert await _page(client, alice) == {"items": [], "next_cursor": None}


async def test_an_unknown_user_has_no_tasks(client: httpx.AsyncClient) -> None:
    assert await _page(client, uuid4()) == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        "null",
        "undefined",
        "%20",
        "%00",
        "%FF",
        "42",
        "3fa85f6457174562b3fc2c963f66afa6",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6%0A",
    ],
)
async def test_it_refuses_a_user_id_that_is_none(client: httpx.AsyncClient, user_id: str) -> None:
    response = await client.get(f"http://test/api/{user_id}/tasks")

    assert_problem(response, 400, "invalid-input", "user_id")


async def test_the_newest_comes_first(client: httpx.AsyncClient, alice: UUID) -> None:
    made = [await make_task(client, alice, title=f"Task {number}") for number in range(3)]

    assert await _page(client, alice) == {"items": made[::-1], "next_cursor": None}


async def test_a_change_does_not_move_a_task(client: httpx.AsyncClient, alice: UUID) -> None:
    first, second = await make_task(client, alice), await make_task(client, alice)
    await client.patch(address(first), json={"title": "Changed"})

    assert [item["id"] for item in (await _page(client, alice))["items"]] == [second["id"], first["id"]]


async def test_it_lists_100_unless_told_otherwise(client: httpx.AsyncClient, database: Database, alice: UUID) -> None:
    await make_tasks(database, alice, 101)
    page = await _page(client, alice)

    assert len(page["items"]) == 100
    assert page["next_cursor"]


async def test_it_lists_500_at_most(client: httpx.AsyncClient, database: Database, alice: UUID) -> None:
    await make_tasks(database, alice, 501)
    page = await _page(client, alice, limit=500)

    assert len(page["items"]) == 500
    assert page["next_cursor"]


async def test_a_last_page_that_is_full_has_no_next(client: httpx.AsyncClient, database: Database, alice: UUID) -> None:
    await make_tasks(database, alice, 4)

    assert (await _page(client, alice, limit=4))["next_cursor"] is None
    second = await _page(client, alice, limit=2, cursor=(await _page(client, alice, limit=2))["next_cursor"])
    assert len(second["items"]) == 2
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "limit",
    ["0", "-1", "501", "1000000", "9" * 30, "9" * 5000, "", "x", "1e2", "0x10", "true", "null", "5;6", "\0", "\u0665"],
)
async def test_it_refuses_a_limit_that_it_will_not_keep(client: httpx.AsyncClient, alice: UUID, limit: str) -> None:
    response = await client.get(f"{alice}/tasks", params={"limit": limit})

    assert_problem(response, 400, "invalid-input", "limit")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50, 500])
async def test_the_cursor_walks_all_tasks_once_and_in_order(
    client: httpx.AsyncClient, database: Database, alice: UUID, bob: UUID, limit: int
) -> None:
    await make_tasks(database, alice, 50)
    await make_tasks(database, bob, 5)
    at_once = (await _page(client, alice))["items"]

    assert len(at_once) == 50
    assert at_once == sorted(at_once, key=lambda task: (task["created_at"], task["id"]), reverse=True)
    assert await _walk(client, alice, limit) == at_once


async def test_the_walk_goes_on_while_others_insert_and_delete(
    client: httpx.AsyncClient, database: Database, alice: UUID
) -> None:
    await make_tasks(database, alice, 60)
    page = await _page(client, alice, limit=10)
    seen = [item["id"] for item in page["items"]]
    everything = {item["id"] for item in (await _page(client, alice))["items"]}
    gone: set[str] = set()
    while page["next_cursor"]:
        assert len(seen) < 100
        await make_task(client, alice, title="New")
        unseen = next(iter(sorted(everything - set(seen) - gone)))
        # The last one of the page is where the cursor stands.
        for victim in (seen[0], seen[-1], unseen):
            await client.delete(f"{alice}/tasks/{victim}")
            gone.add(victim)
        page = await _page(client, alice, limit=10, cursor=page["next_cursor"])
        seen += [item["id"] for item in page["items"]]

    assert len(seen) == len(set(seen))
    assert everything - gone <= set(seen) <= everything


async def test_a_cursor_of_alice_is_none_for_bob(
    client: httpx.AsyncClient, database: Database, alice: UUID, bob: UUID
) -> None:
    await make_tasks(database, alice, 6)
    await make_tasks(database, bob, 6)
    cursor = (await _page(client, alice, limit=1))["next_cursor"]

    response = await client.get(f"{bob}/tasks", params={"cursor": cursor})

    assert_problem(response, 400, "invalid-input", "cursor")


@pytest.mark.parametrize(
    "cursor", ["", "x", "null", "é", "\0", "A" * 33, "A" * 5000, "_" * 43, "gAAAAAAAAAAAAAAA" + "A" * 16]
)
async def test_it_refuses_what_is_no_cursor(client: httpx.AsyncClient, alice: UUID, cursor: str) -> None:
    response = await client.get(f"{alice}/tasks", params={"cursor": cursor})

    assert_problem(response, 400, "invalid-input", "cursor")


async def test_every_fault_of_the_query_and_the_path_is_named(client: httpx.AsyncClient) -> None:
    response = await client.get("me/tasks", params={"limit": "0"})

    assert {error["field"] for error in response.json()["errors"]} == {"user_id", "limit"}


@pytest.mark.parametrize(
    "query",
    [pytest.param("&".join(f"a{number}" for number in range(2000)), id="2000 fields"), "%FF=%FF", "=&=&&", "limit[]=5"],
)
async def test_odd_query_strings_are_never_a_failure(client: httpx.AsyncClient, alice: UUID, query: str) -> None:
    response = await client.get(f"{alice}/tasks?{query}")

    assert response.status_code in (200, 400)
