"""Paging and sorting: nothing is skipped and nothing is shown twice, in any order, whatever others do meanwhile."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.models import TITLE_MAX_LENGTH
from persistence.postgres.database import Database
from persistence.task_lists import SortKey
from tests.support.contract import SCHEMAS
from tests.support.helpers import Client, Json, address, assert_problem, insert_task, make_task
from tests.support.model import lists
from tests.support.model.lists import Position
from todos.cursors import ListCursors

SORTS: list[str] = SCHEMAS["Sort"]["enum"]


def by_key(sort: str) -> Callable[[Json], Any]:
    key = sort.removeprefix("-")
    if key == "priority":
        return lambda task: ["low", "medium", "high"].index(task["priority"])
    return lambda task: lists.folded(task[key]) if key == "title" else task[key]


def in_order(tasks: list[Json], sort: str) -> list[Json]:
    by_id = {task["id"]: task for task in tasks}
    positions = [Position(by_key(sort)(task), task["id"]) for task in tasks]
    return [by_id[position.id] for position in lists.in_order(positions, sort)]


async def make_mixed_tasks(owner: Database, user: UUID, count: int = 60) -> None:
    """Tasks of which many share each sort value, so that only the id tells them apart."""
    dice, now = random.Random(7), datetime.now(UTC)  # noqa: S311 - test data is not a secret
    edges = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    rows = [
        {
            "id": uuid4(),
            "user_id": user,
            "title": dice.choice(
                ["milk", "Milk", "MILK", "Äpfel", "äpfel", "bread 10", "_", "\U0001f95b" * TITLE_MAX_LENGTH, "\x01"]
            ),
            "priority": dice.choice(["low", "medium", "high"]),
            "due_date": dice.choice([None, None, now, now + timedelta(days=1), now - timedelta(days=1), *edges]),
            "tags": [dice.choice(["a", "b"])],
            "created_at": now - timedelta(seconds=dice.randrange(5)),
            "updated_at": now - timedelta(seconds=dice.randrange(5)),
        }
        for _ in range(count)
    ]
    names, places = ", ".join(rows[0]), ", ".join(f"%({name})s" for name in rows[0])
    async with owner.connection() as connection, connection.cursor() as cursor:
        await cursor.executemany(f"INSERT INTO tasks ({names}) VALUES ({places})".encode(), rows)


async def walk(client: Client, user: UUID, **query: Any) -> list[Json]:
    """The tasks of all pages, by `next_cursor`."""
    items: list[Json] = []
    for _ in range(1000):
        response = await client.get(f"{user}/tasks", params=query)
        assert response.status_code == 200, response.text
        items += response.json()["items"]
        query["cursor"] = response.json()["next_cursor"]
        if query["cursor"] is None:
            return items
    raise AssertionError("the cursor stands still")


@pytest.mark.parametrize("sort", SORTS)
async def test_every_order_is_total_and_can_be_walked(
    client: Client, owner: Database, alice: UUID, bob: UUID, sort: str
) -> None:
    await make_mixed_tasks(owner, alice, 30)
    await make_mixed_tasks(owner, bob, 5)
    at_once = await walk(client, alice, sort=sort, limit=500)

    assert len(at_once) == 30
    assert at_once == in_order(at_once, sort)
    for limit in (1, 7, 30):
        assert await walk(client, alice, sort=sort, limit=limit) == at_once
    assert await walk(client, alice, sort=sort, limit=3, tag="a", priority=["low", "high"]) == [
        task for task in at_once if task["tags"] == ["a"] and task["priority"] != "medium"
    ]
    if sort == "-created_at":
        assert await walk(client, alice) == at_once


async def test_the_task_at_the_cursor_may_be_deleted_or_changed(client: Client, owner: Database, alice: UUID) -> None:
    await make_mixed_tasks(owner, alice, 20)
    for sort in SORTS:
        everything = await walk(client, alice, sort=sort)
        first = (await client.get(f"{alice}/tasks", params={"sort": sort, "limit": 5})).json()
        await client.delete(address(first["items"][-1]))

        assert await walk(client, alice, sort=sort, limit=500, cursor=first["next_cursor"]) == everything[5:]


@pytest.mark.parametrize(
    "query",
    [{}, {"sort": "title"}, {"tag": ["b", "a"]}, {"q": "milk & more"}, {"due_after": "2000-01-01T00:00:00+01:00"}],
    ids=str,
)
async def test_the_link_leads_through_all_pages(client: Client, owner: Database, alice: UUID, query: Any) -> None:
    await make_mixed_tasks(owner, alice, 20)
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


async def assert_refused(client: Client, user: UUID, cursor: str, **query: Any) -> None:
    response = await client.get(f"{user}/tasks", params={**query, "cursor": cursor})
    document = assert_problem(response, 400, "invalid-input", "cursor")
    assert "same filters and the same sort" in document["errors"][0]["detail"]


@pytest.mark.parametrize(
    "other",
    [
        {}, {"tag": "a"}, {"sort": "title"}, {"sort": "title", "tag": "b"}, {"sort": "title", "tag": ["a", "b"]},
        {"sort": "-title", "tag": "a"}, {"sort": "created_at", "tag": "a"}, {"sort": "title", "q": "a"},
        {"sort": "title", "tag": "a", "status": "pending"}, {"sort": "title", "tag": "a", "overdue": "true"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_cursor_is_good_for_one_list_of_one_user_only(
    client: Client, owner: Database, alice: UUID, bob: UUID, other: Any
) -> None:
    await make_mixed_tasks(owner, alice, 20)
    mine: dict[str, Any] = {"sort": "title", "tag": "a"}
    cursor = (await client.get(f"{alice}/tasks", params={**mine, "limit": 2})).json()["next_cursor"]

    await assert_refused(client, alice, cursor, **other)
    await assert_refused(client, bob, cursor, **mine)
    assert (await client.get(f"{alice}/tasks", params={**mine, "cursor": cursor})).status_code == 200


@pytest.mark.parametrize(("sort", "value"), [("priority", "urgent"), ("priority", ""), ("title", "a\0b")])
async def test_a_forged_cursor_is_refused_as_a_cursor(client: Client, alice: UUID, sort: SortKey, value: str) -> None:
    forged = ListCursors(alice, {}, sort, descending=False).encode((value, uuid4()))
    await assert_refused(client, alice, forged, sort=sort)


async def test_a_change_of_any_character_of_a_cursor_is_noticed(client: Client, alice: UUID) -> None:
    for _ in range(2):
        await make_task(client, alice)
    cursor = (await client.get(f"{alice}/tasks?limit=1")).json()["next_cursor"]
    for place, character in enumerate(cursor):
        # The last character has bits that no byte needs.
        others = "Ag_9" if place + 1 == len(cursor) else "A" if character != "A" else "g"
        for other in others.replace(character, ""):
            await assert_refused(client, alice, cursor[:place] + other + cursor[place + 1 :])
    for end in ("=", "==", "A", "\n", " ", "%3D"):
        await assert_refused(client, alice, cursor + end)


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
    client: Client, owner: Database, alice: UUID, one: Any, same: Any
) -> None:
    for _ in range(2):
        await insert_task(
            owner, alice, "Buy milk", tags=["a", "b"], priority="low", due_date=datetime(2999, 1, 1, tzinfo=UTC)
        )
    cursor = (await client.get(f"{alice}/tasks", params={"limit": 1, **one})).json()["next_cursor"]

    assert (await client.get(f"{alice}/tasks", params={**same, "cursor": cursor})).status_code == 200
