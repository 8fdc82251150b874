"""Counting: GET /api/{user_id}/tasks/summary."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from persistence.models import TAGS_MAX_COUNT
from persistence.postgres.database import Database
from persistence.task_lists import TAGS_COUNTED
from tests.support.helpers import Client, Json, insert_task, make_task

NOTHING: Json = {
    "total": 0,
    "status": {"pending": 0, "completed": 0},
    "priority": {"low": 0, "medium": 0, "high": 0},
    "tags": {},
    "overdue": 0,
}
PAST = datetime.now(UTC) - timedelta(days=1)


async def summary(client: Client, user: UUID) -> Json:
    response = await client.get(f"{user}/tasks/summary")
    assert response.status_code == 200, response.text
    counts: Json = response.json()
    return counts


async def test_a_new_user_and_an_unknown_one_have_nothing(client: Client, alice: UUID) -> None:
    assert await summary(client, alice) == await summary(client, uuid4()) == NOTHING


async def test_it_counts_each_task_once_in_each_way(client: Client, database: Database, alice: UUID, bob: UUID) -> None:
    done = {"status": "completed"}
    await insert_task(database, alice, "late", due_date=PAST, priority="high", tags=["home", "work"])
    await insert_task(database, alice, "late but done", due_date=PAST, priority="high", tags=["home"], **done)
    await insert_task(database, alice, "done", tags=["garden"], **done)
    await make_task(client, alice, due_date="2999-01-01T00:00:00Z", priority="low", tags=["home", "Ärger"])
    await make_task(client, bob, tags=["secret"])

    assert await summary(client, alice) == {
        "total": 4,
        "status": {"pending": 2, "completed": 2},
        "priority": {"low": 1, "medium": 1, "high": 2},
        "tags": {"home": 3, "garden": 1, "work": 1, "ärger": 1},
        "overdue": 1,
    }


async def test_the_most_frequent_tags_come_first(client: Client, alice: UUID) -> None:
    for tags in (["z", "a"], ["z", "b"], ["z", "b"]):
        await make_task(client, alice, tags=tags)

    assert list((await summary(client, alice))["tags"].items()) == [("z", 3), ("b", 2), ("a", 1)]


async def test_only_so_many_tags_are_counted(client: Client, database: Database, alice: UUID) -> None:
    tags = [f"tag {number:04}" for number in range(TAGS_COUNTED + TAGS_MAX_COUNT)]
    for first in range(0, len(tags), TAGS_MAX_COUNT):
        await insert_task(database, alice, "many", tags=tags[first : first + TAGS_MAX_COUNT])
    await insert_task(database, alice, "the last one again", tags=tags[-1:])

    assert list((await summary(client, alice))["tags"]) == [tags[-1], *tags[: TAGS_COUNTED - 1]]


async def test_odd_tags_are_counted_as_they_are(client: Client, alice: UUID) -> None:
    odd = ['"', "\\", "'", "\U0001f95b", "a b", "null", "__proto__", "\x01x"]
    await make_task(client, alice, tags=odd)

    assert (await summary(client, alice))["tags"] == dict.fromkeys(sorted(odd), 1)
