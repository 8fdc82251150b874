"""Finding tasks: the filters of a list, each of which means what it says, and all of which must be met."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from persistence.postgres.database import Database
from tests.support.helpers import Json, address, assert_problem, make_task

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def at(hours: float) -> str:
    return (NOW + hours * HOUR).isoformat().replace("+00:00", "Z")


async def insert(database: Database, user: UUID, title: str, **values: Any) -> None:
    """A task as it may have become, with times that no client could choose."""
    completed_at = NOW if values.get("status") == "completed" else None
    row = {"id": uuid4(), "user_id": user, "title": title, "completed_at": completed_at} | values
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    async with database.connection() as connection:
        await connection.execute(f"INSERT INTO tasks ({names}) VALUES ({places})".encode(), row)


@pytest.fixture
async def tasks(database: Database, alice: UUID, bob: UUID) -> UUID:
    """Alice's tasks, named after what they are. Bob has one that every filter would find."""
    await insert(database, alice, "plain", created_at=NOW - 1 * HOUR, updated_at=NOW - 1 * HOUR)
    await insert(database, alice, "done", status="completed", priority="low", tags=["home"], created_at=NOW - 2 * HOUR)
    await insert(database, alice, "late", due_date=NOW - 5 * HOUR, priority="high", tags=["work", "home"])
    await insert(database, alice, "late but done", due_date=NOW - 5 * HOUR, status="completed", tags=["work"])
    await insert(database, alice, "soon", due_date=NOW + 5 * HOUR, tags=["home", "garden", "work"])
    await insert(
        database, alice, "Übung macht", description="den MEISTER\nim Garten 100%_\\", created_at=NOW - 9 * HOUR
    )
    await insert(database, bob, "late", due_date=NOW - 5 * HOUR, priority="high", tags=["work", "home", "garden"])
    return alice


async def found(client: httpx.AsyncClient, user: UUID, query: Any) -> set[str]:
    response = await client.get(f"{user}/tasks", params=query)
    assert response.status_code == 200, response.text
    return {item["title"] for item in response.json()["items"]}


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
        ({"due_before": at(-4.999)}, {"late", "late but done"}),
        ({"due_after": at(0)}, {"soon"}),
        ({"due_after": at(-5)}, {"soon"}),
        ({"due_after": at(-5.001), "due_before": at(0)}, {"late", "late but done"}),
        ({"due_after": at(1), "due_before": at(0)}, set()),
        ({"due_after": "2000-01-01T00:00:00+14:00"}, DATED),
        ({"overdue": "true"}, {"late"}),
        ({"overdue": "false"}, ALL - {"late"}),
        ({"overdue": "true", "status": "completed"}, set()),
        ({"has_due_date": "true"}, DATED),
        ({"has_due_date": "false"}, ALL - DATED),
        ({"has_due_date": "false", "overdue": "true"}, set()),
        ({"created_before": at(-1.5)}, {"done", "Übung macht"}),
        ({"created_after": at(-1.5)}, ALL - {"done", "Übung macht"}),
        ({"created_after": at(-9), "created_before": at(-1)}, {"done"}),
        ({"updated_before": at(-0.5)}, {"plain"}),
        ({"updated_after": at(-0.5)}, ALL - {"plain"}),
        ({"updated_after": at(-1), "updated_before": at(-0.9)}, set()),
        ({"q": "late"}, {"late", "late but done"}),
        ({"q": "LATE DONE"}, {"late but done"}),
        ({"q": "done late"}, {"late but done"}),
        ({"q": "übung"}, {"Übung macht"}),
        ({"q": "ÜBUNG meister"}, {"Übung macht"}),
        ({"q": "garten"}, {"Übung macht"}),
        ({"q": "art"}, {"Übung macht"}),
        ({"q": "macht den"}, {"Übung macht"}),
        ({"q": "machtden"}, set()),
        ({"q": "100%_\\"}, {"Übung macht"}),
        ({"q": "%"}, {"Übung macht"}),
        ({"q": "l_te"}, set()),
        ({"q": "late late  late"}, {"late", "late but done"}),
        ({"q": "late nowhere"}, set()),
        ({"q": "late", "tag": "home", "overdue": "true", "priority": "high", "status": "pending"}, {"late"}),
    ],
)
async def test_it_finds(client: httpx.AsyncClient, tasks: UUID, query: Any, expected: set[str]) -> None:
    assert await found(client, tasks, query) == expected


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("status", "done", "'pending' or 'completed'"),
        ("status", "", "'pending' or 'completed'"),
        ("completed", "1", "true or false"),
        ("completed", "True", "true or false"),
        ("completed", "", "true or false"),
        ("overdue", "yes", "true or false"),
        ("has_due_date", "null", "true or false"),
        ("priority", "urgent", "'low', 'medium' or 'high'"),
        ("priority", "", "'low', 'medium' or 'high'"),
        ("priority", ["low", "urgent"], "'low', 'medium' or 'high'"),
        ("priority", ["low", "medium", "high", "low"], "at most 3"),
        ("tag", "", "1 to 10 characters"),
        ("tag", "x" * 11, "1 to 10 characters"),
        ("tag", ["ok", " "], "1 to 10 characters"),
        ("tag", "a\0b", "NUL"),
        ("tag", [f"tag{number}" for number in range(21)], "at most 20"),
        ("due_before", "2030-01-01", "2030-12-31T17:00:00Z"),
        ("due_after", "2030-01-01T00:00:00", "offset"),
        ("created_before", "now", "2030-12-31T17:00:00Z"),
        ("created_after", "1700000000", "2030-12-31T17:00:00Z"),
        ("updated_before", "", "2030-12-31T17:00:00Z"),
        ("updated_after", "2030-02-30T00:00:00Z", "no such date"),
        ("updated_after", "0001-01-01T00:00:00+23:59", "no such date"),
        ("q", "", "1 to 10 words"),
        ("q", " \t", "1 to 10 words"),
        ("q", "a b c d e f g h i j k", "1 to 10 words"),
        ("q", "x" * 101, "at most 100 characters"),
        ("due_after", "2030-01-01T00:00:00+12:99", "2030-12-31T17:00:00Z"),
        ("due_after", "2030-01-01T24:00:00Z", "2030-12-31T17:00:00Z"),
        ("q", "a\0b", "NUL"),
        ("sort", "name", "'created_at', '-created_at'"),
        ("sort", "", "'title' or '-title'"),
        ("sort", "+title", "'title' or '-title'"),
        ("limit", "5.0", "whole number"),
        ("limit", " 5", "whole number"),
        ("limit", "1_0", "whole number"),
        ("limit", "\u0665", "whole number"),
        ("limit", "501", "less than or equal to 500"),
        ("cursor", "x", "next_cursor"),
    ],
    ids=str,
)
async def test_a_value_that_it_cannot_use_is_refused_by_name_with_what_it_can(
    client: httpx.AsyncClient, alice: UUID, name: str, value: Any, hint: str
) -> None:
    response = await client.get(f"{alice}/tasks", params={name: value})

    document = response.json()
    assert_problem(response, 400, "invalid-input", *(error["field"] for error in document["errors"]))
    [error] = document["errors"]
    assert error["field"].partition(".")[0] == name
    assert hint in error["detail"]


async def test_a_plus_that_was_not_escaped_is_explained(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.get(f"{alice}/tasks?due_after=2030-12-31T18:00:00+01:00")

    document = assert_problem(response, 400, "invalid-input", "due_after")
    assert "%2B" in document["errors"][0]["detail"]
    assert (await client.get(f"{alice}/tasks?due_after=2030-12-31T18:00:00%2B01:00")).status_code == 200


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("Status=pending", ("Status",)),
        ("colour=red&tags=home", ("colour", "tags")),
        ("priority[]=low", ("priority[]",)),
        ("user_id=x", ("user_id",)),
        ("=", ("",)),
        ("offset=5", ("offset",)),
    ],
)
async def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(
    client: httpx.AsyncClient, alice: UUID, query: str, fields: tuple[str, ...]
) -> None:
    document = assert_problem(await client.get(f"{alice}/tasks?{query}"), 400, "invalid-input", *fields)

    assert "limit, cursor, sort, status" in document["errors"][0]["detail"]


@pytest.mark.parametrize("query", ["%FF=1", "tag=%ff", "q=caf%e9", "tag=%ED%A0%80", "limit=5&%C0%AF"])
async def test_a_query_that_is_not_utf_8_is_refused(client: httpx.AsyncClient, alice: UUID, query: str) -> None:
    assert_problem(await client.get(f"{alice}/tasks?{query}"), 400, "invalid-input", "query")


@pytest.mark.parametrize("name", ["limit", "cursor", "sort", "status", "completed", "due_before", "overdue", "q"])
async def test_a_parameter_with_one_value_may_be_given_only_once(
    client: httpx.AsyncClient, alice: UUID, name: str
) -> None:
    response = await client.get(f"{alice}/tasks?{name}=5&{name}=5")

    document = assert_problem(response, 400, "invalid-input", name)
    assert "only once" in document["errors"][0]["detail"]


async def test_other_task_operations_have_no_parameters(client: httpx.AsyncClient, alice: UUID) -> None:
    task = await make_task(client, alice)
    for method, url, body in (
        ("POST", f"{alice}/tasks", {"title": "x"}),
        ("GET", f"{alice}/tasks/summary", None),
        ("GET", address(task), None),
        ("PUT", address(task), {"title": "x"}),
        ("PATCH", address(task), {"title": "x"}),
        ("DELETE", address(task), None),
    ):
        document = assert_problem(
            await client.request(method, f"{url}?force=true", json=body), 400, "invalid-input", "force"
        )
        assert "there are none here" in document["errors"][0]["detail"]


async def test_a_probe_may_be_asked_with_any_parameter(client: httpx.AsyncClient) -> None:
    # Load balancers add some against caches, and must not take the service for dead.
    assert (await client.get("v1/health?t=1")).status_code == 200
    assert (await client.get("v1/live?t=1")).status_code == 200


async def test_the_most_that_can_be_asked_at_once_is_answered(client: httpx.AsyncClient, tasks: UUID) -> None:
    moment = "2030-12-31T18:00:00.123456+01:00"
    query: Json = {
        "limit": 500,
        "sort": "-updated_at",
        "status": "pending",
        "completed": "false",
        "priority": ["low", "medium", "high"],
        "tag": [f"{number:02}" + "\U0001f95b" * 8 for number in range(20)],
        "overdue": "true",
        "has_due_date": "true",
        "q": "\U0001f95b" * 100,
    } | {f"{name}_{side}": moment for name in ("due", "created", "updated") for side in ("before", "after")}

    assert await found(client, tasks, query) == set()
