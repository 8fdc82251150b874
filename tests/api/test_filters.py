"""Finding tasks: the filters of a list, each of which means what it says, and all of which must be met."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from persistence.postgres.database import Database
from tests.support.helpers import Client, insert_task

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def at(hours: float) -> str:
    return (NOW + hours * HOUR).isoformat().replace("+00:00", "Z")


@pytest.fixture
async def tasks(owner: Database, alice: UUID, bob: UUID) -> UUID:
    """Alice's tasks, named after what they are. Bob has one that every filter would find."""
    late: dict[str, Any] = {"due_date": NOW - 5 * HOUR, "priority": "high", "tags": ["work", "home"]}
    hers: dict[str, dict[str, Any]] = {
        "plain": {"created_at": NOW - 1 * HOUR, "updated_at": NOW - 1 * HOUR},
        "done": {"status": "completed", "priority": "low", "tags": ["home"], "created_at": NOW - 2 * HOUR},
        "late": late,
        "late but done": {"due_date": NOW - 5 * HOUR, "status": "completed", "tags": ["work"]},
        "soon": {"due_date": NOW + 5 * HOUR, "tags": ["home", "garden", "work"]},
        "Übung macht": {"description": "den MEISTER\nim Garten 100%_\\", "created_at": NOW - 9 * HOUR},
    }
    for title, values in hers.items():
        await insert_task(owner, alice, title, **values)
    await insert_task(owner, bob, "late", **late | {"tags": ["work", "home", "garden"]})
    return alice


ALL = {"plain", "done", "late", "late but done", "soon", "Übung macht"}
COMPLETED = {"done", "late but done"}
DATED = {"late", "late but done", "soon"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ALL),
        ({"status": "completed"}, COMPLETED),
        ({"status": "pending"}, ALL - COMPLETED),
        ({"completed": "true"}, COMPLETED),
        ({"completed": "false"}, ALL - COMPLETED),
        ({"completed": "true", "status": "completed"}, COMPLETED),
        ({"completed": "true", "status": "pending"}, set()),
        ({"priority": "high"}, {"late"}),
        ({"priority": ["high", "low"]}, {"late", "done"}),
        ({"priority": ["medium", "medium"]}, ALL - {"late", "done"}),
        ({"tag": "home"}, {"done", "late", "soon"}),
        ({"tag": [" HOME ", "work"]}, {"late", "soon"}),
        ({"tag": ["work", "home", "home", "garden"]}, {"soon"}),
        ({"tag": "hom"}, set()),
        ({"due_before": at(0)}, {"late", "late but done"}),
        ({"due_before": at(-5)}, set()),
        ({"due_after": at(0)}, {"soon"}),
        ({"due_after": at(-5)}, {"soon"}),
        ({"due_after": at(-5.001), "due_before": at(0)}, {"late", "late but done"}),
        ({"due_after": "2000-01-01T00:00:00+14:00"}, DATED),
        ({"overdue": "true"}, {"late"}),
        ({"overdue": "false"}, ALL - {"late"}),
        ({"has_due_date": "true"}, DATED),
        ({"has_due_date": "false"}, ALL - DATED),
        ({"created_before": at(-1.5)}, {"done", "Übung macht"}),
        ({"created_after": at(-1.5)}, ALL - {"done", "Übung macht"}),
        ({"created_after": at(-9), "created_before": at(-1)}, {"done"}),
        ({"updated_before": at(-0.5)}, {"plain"}),
        ({"updated_after": at(-0.5)}, ALL - {"plain"}),
        ({"updated_after": at(-1), "updated_before": at(-0.9)}, set()),
        ({"q": "late"}, {"late", "late but done"}),
        ({"q": "LATE DONE"}, {"late but done"}),
        ({"q": "übung"}, {"Übung macht"}),
        ({"q": "ÜBUNG meister"}, {"Übung macht"}),
        ({"q": "art"}, {"Übung macht"}),
        ({"q": "macht den"}, {"Übung macht"}),
        ({"q": "machtden"}, set()),
        ({"q": "100%_\\"}, {"Übung macht"}),
        ({"q": "%"}, {"Übung macht"}),
        ({"q": "l_te"}, set()),
        ({"q": "late late  late"}, {"late", "late but done"}),
        ({"q": "late", "tag": "home", "overdue": "true", "priority": "high", "status": "pending"}, {"late"}),
    ],
)
async def test_it_finds(client: Client, tasks: UUID, query: Any, expected: set[str]) -> None:
    response = await client.get(f"{tasks}/tasks", params=query)

    assert {item["title"] for item in response.json()["items"]} == expected
