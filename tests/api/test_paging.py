"""Paging and sorting: nothing is skipped and nothing is shown twice, in any order, whatever others do meanwhile."""

import random
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from persistence.postgres.database import Database
from tests.support.helpers import Json, address, assert_problem, make_task

KEYS: dict[str, Callable[[Json], Any]] = {
    "created_at": lambda task: task["created_at"],
    "updated_at": lambda task: task["updated_at"],
    "due_date": lambda task: task["due_date"],
    "priority": lambda task: ["low", "medium", "high"].index(task["priority"]),
    "title": lambda task: task["title"].lower(),
}
SORTS = [f"{sign}{key}" for key in KEYS for sign in ("", "-")]


async def make_mixed_tasks(database: Database, user: UUID, count: int = 60) -> None:
    """Tasks of which many share each sort value, so that only the id tells them apart."""
    dice, now = random.Random(7), datetime.now(UTC)  # noqa: S311 - test data is no secret
    rows = [
        (
            uuid4(),
            user,
            dice.choice(["milk", "Milk", "MILK", "Äpfel", "äpfel", "bread 2", "Bread 10", "_", "\U0001f95b"]),
            dice.choice(["low", "medium", "high"]),
            dice.choice([None, None, now, now + timedelta(days=1), now - timedelta(days=1)]),
            [dice.choice(["a", "b"])],
            now - timedelta(seconds=dice.randrange(5)),
            now - timedelta(seconds=dice.randrange(5)),
        )
        for _ in range(count)
    ]
    async with database.connection() as connection, connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO tasks (id, user_id, title, priority, due_date, tags, created_at, updated_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )


async def pages(client: httpx.AsyncClient, user: UUID, **query: Any) -> AsyncIterator[list[Json]]:
    """Each page, by `next_cursor`."""
    for _ in range(1000):
        response = await client.get(f"{user}/tasks", params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        yield page["items"]
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]
    raise AssertionError("the cursor stands still")


async def walk(client: httpx.AsyncClient, user: UUID, **query: Any) -> list[Json]:
    return [item async for page in pages(client, user, **query) for item in page]


def in_order(tasks: list[Json], sort: str) -> list[Json]:
    """As the documentation has it: by the key and then by the id, both reversed by `-`; no due date is last."""
    key, reverse = KEYS[sort.removeprefix("-")], sort.startswith("-")
    with_key = [task for task in tasks if key(task) is not None]
    without = [task for task in tasks if key(task) is None]
    return [
        *sorted(with_key, key=lambda task: (key(task), task["id"]), reverse=reverse),
        *sorted(without, key=lambda task: task["id"], reverse=reverse),
    ]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("limit", [1, 7, 60])
async def test_every_order_is_total_and_can_be_walked(
    client: httpx.AsyncClient, database: Database, alice: UUID, sort: str, limit: int
) -> None:
    await make_mixed_tasks(database, alice)
    at_once = await walk(client, alice, sort=sort, limit=500)

    assert len(at_once) == 60
    assert at_once == in_order(at_once, sort)
    assert await walk(client, alice, sort=sort, limit=limit) == at_once


async def test_the_newest_come_first_unless_told_otherwise(
    client: httpx.AsyncClient, database: Database, alice: UUID
) -> None:
    await make_mixed_tasks(database, alice)

    assert await walk(client, alice) == await walk(client, alice, sort="-created_at")


@pytest.mark.parametrize("sort", SORTS)
async def test_a_filtered_list_is_walked_in_the_same_way(
    client: httpx.AsyncClient, database: Database, alice: UUID, sort: str
) -> None:
    await make_mixed_tasks(database, alice)
    everything = await walk(client, alice, sort=sort, limit=500)

    assert await walk(client, alice, sort=sort, limit=3, tag="a", priority=["low", "high"]) == [
        task for task in everything if task["tags"] == ["a"] and task["priority"] != "medium"
    ]


async def test_the_task_at_the_cursor_may_be_deleted_or_changed(
    client: httpx.AsyncClient, database: Database, alice: UUID
) -> None:
    await make_mixed_tasks(database, alice, 20)
    for sort in SORTS:
        everything = await walk(client, alice, sort=sort)
        first = (await client.get(f"{alice}/tasks", params={"sort": sort, "limit": 5})).json()
        await client.delete(address(first["items"][-1]))
        rest = await walk(client, alice, sort=sort, cursor=first["next_cursor"])

        assert rest == everything[5:]


async def test_the_limit_may_change_from_page_to_page(
    client: httpx.AsyncClient, database: Database, alice: UUID
) -> None:
    await make_mixed_tasks(database, alice, 20)
    first = (await client.get(f"{alice}/tasks", params={"limit": 5})).json()
    rest = (await client.get(f"{alice}/tasks", params={"limit": 500, "cursor": first["next_cursor"]})).json()

    assert first["items"] + rest["items"] == await walk(client, alice)


@pytest.mark.parametrize(
    "query",
    [{}, {"sort": "title"}, {"tag": ["b", "a"]}, {"q": "milk & more"}, {"due_after": "2000-01-01T00:00:00+01:00"}],
    ids=str,
)
async def test_the_link_leads_through_all_pages(
    client: httpx.AsyncClient, database: Database, alice: UUID, query: Any
) -> None:
    await make_mixed_tasks(database, alice, 20)
    for number in range(5):
        due = "2999-01-01T00:00:00Z"
        await make_task(client, alice, title=f"milk & more {number}", tags=["a", "b"], due_date=due)
    response = await client.get(f"{alice}/tasks", params={"limit": 2, **query})
    items = response.json()["items"]
    while "Link" in response.headers:
        link = re.fullmatch(r'<(/api/[^<>\s]+)>; rel="next"', response.headers["Link"])
        assert link
        assert len(items) < 100
        response = await client.get(f"http://test{link[1]}")
        items += response.json()["items"]

    assert response.json()["next_cursor"] is None
    assert len(items) >= 5
    assert items == await walk(client, alice, limit=500, **query)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"status": "completed", "sort": "title"},
        {"status": "pending"},
        {"status": "pending", "sort": "-title"},
        {"status": "pending", "sort": "title", "tag": "a"},
        {"status": "pending", "sort": "created_at"},
    ],
    ids=str,
)
async def test_a_cursor_used_with_another_list_is_refused(
    client: httpx.AsyncClient, database: Database, alice: UUID, other: Any
) -> None:
    await make_mixed_tasks(database, alice, 20)
    mine: dict[str, Any] = {"status": "pending", "sort": "title", "limit": 5}
    cursor = (await client.get(f"{alice}/tasks", params=mine)).json()["next_cursor"]
    response = await client.get(f"{alice}/tasks", params={**other, "cursor": cursor})

    document = assert_problem(response, 400, "invalid-input", "cursor")
    assert "same filters and the same sort" in document["errors"][0]["detail"]
    assert (await client.get(f"{alice}/tasks", params={**mine, "cursor": cursor})).status_code == 200


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"tag": ["a", "b"]}, {"tag": [" B", "a", "b"]}),
        ({"priority": ["low", "high"]}, {"priority": ["high", "low", "low"]}),
        ({"status": "pending"}, {"completed": "false"}),
        ({"sort": "-created_at"}, {}),
        ({"due_after": "2000-01-01T00:00:00Z"}, {"due_after": "2000-01-01T01:00:00+01:00"}),
    ],
    ids=str,
)
async def test_the_same_list_said_in_other_words_has_the_same_cursors(
    client: httpx.AsyncClient, alice: UUID, one: Any, same: Any
) -> None:
    for _ in range(2):
        await make_task(client, alice, tags=["a", "b"], priority="low", due_date="2999-01-01T00:00:00Z")
    cursor = (await client.get(f"{alice}/tasks", params={"limit": 1, **one})).json()["next_cursor"]

    assert (await client.get(f"{alice}/tasks", params={**same, "cursor": cursor})).status_code == 200
