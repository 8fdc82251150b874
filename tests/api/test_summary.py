"""Counting: GET /api/{user_id}/tasks/summary."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from persistence.postgres.database import Database
from tests.api.test_filters import insert
from tests.support.helpers import Json, assert_problem, make_task

NOTHING: Json = {
    "total": 0,
    "status": {"pending": 0, "completed": 0},
    "priority": {"low": 0, "medium": 0, "high": 0},
    "tags": {},
    "overdue": 0,
}


async def summary(client: httpx.AsyncClient, user: UUID) -> Json:
    response = await client.get(f"{user}/tasks/summary")
    assert response.status_code == 200, response.text
    counts: Json = response.json()
    return counts


async def test_a_new_user_and_an_unknown_one_have_nothing(client: httpx.AsyncClient, alice: UUID) -> None:
    assert await summary(client, alice) == NOTHING
    assert await summary(client, uuid4()) == NOTHING


async def test_it_counts_each_task_once_in_each_way(
    client: httpx.AsyncClient, database: Database, alice: UUID, bob: UUID
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    await insert(database, alice, "late", due_date=past, priority="high", tags=["home", "work"])
    await insert(database, alice, "late but done", due_date=past, status="completed", priority="high", tags=["home"])
    await insert(database, alice, "done", status="completed", tags=["garden"])
    await make_task(client, alice, due_date="2999-01-01T00:00:00Z", priority="low", tags=["home", "Ärger"])
    await make_task(client, bob, tags=["secret"])

    assert await summary(client, alice) == {
        "total": 4,
        "status": {"pending": 2, "completed": 2},
        "priority": {"low": 1, "medium": 1, "high": 2},
        "tags": {"home": 3, "garden": 1, "work": 1, "ärger": 1},
        "overdue": 1,
    }


async def test_the_most_frequent_tags_come_first(client: httpx.AsyncClient, alice: UUID) -> None:
    for tags in (["z", "a"], ["z", "b"], ["z", "b"]):
        await make_task(client, alice, tags=tags)

    assert list((await summary(client, alice))["tags"].items()) == [("z", 3), ("b", 2), ("a", 1)]


async def test_it_agrees_with_the_lists(client: httpx.AsyncClient, database: Database, alice: UUID) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    for number in range(12):
        await insert(
            database,
            alice,
            f"Task {number}",
            status=("pending", "completed")[number % 2],
            priority=("low", "medium", "high")[number % 3],
            due_date=past if number % 4 < 2 else None,
            tags=[f"tag{number % 5}"],
        )

    async def length(**query: str) -> int:
        return len((await client.get(f"{alice}/tasks", params=query)).json()["items"])

    counts = await summary(client, alice)
    assert counts["total"] == await length()
    assert counts["overdue"] == await length(overdue="true")
    for name in ("status", "priority"):
        for value, count in counts[name].items():
            assert await length(**{name: value}) == count
    for tag, count in counts["tags"].items():
        assert await length(tag=tag) == count


async def test_odd_tags_are_counted_as_they_are(client: httpx.AsyncClient, alice: UUID) -> None:
    odd = ['"', "\\", "'", "\U0001f95b", "a b", "null", "__proto__", "\x01"]
    await make_task(client, alice, tags=odd)

    assert (await summary(client, alice))["tags"] == dict.fromkeys(sorted(odd), 1)


@pytest.mark.parametrize("user_id", ["", "null", "%00", "summary"])
async def test_it_refuses_a_user_id_that_is_none(client: httpx.AsyncClient, user_id: str) -> None:
    assert_problem(await client.get(f"http://test/api/{user_id}/tasks/summary"), 400, "invalid-input", "user_id")
