"""The query of a list is read as strictly as a body, and so is that of every other operation on tasks."""

from typing import Any
from uuid import UUID

import pytest

from tests.support.contract import OPERATIONS
from tests.support.helpers import Client, Json, assert_problem, call, make_task

BOOLEAN, STATUS, PRIORITY = "true or false", "'pending' or 'completed'", "'low', 'medium' or 'high'"
SORT, WHOLE, TIMESTAMP = "'created_at', '-created_at'", "whole number", "2030-12-31T17:00:00Z"
REFUSED: list[tuple[str, str, list[Any]]] = [
    ("limit", "greater than or equal to 1", ["0", "-1"]),
    ("limit", "less than or equal to 500", ["501", "1000000"]),
    ("limit", WHOLE, ["", "x", "5.0", " 5", "1_0", "\u0665", "1e2", "0x10", "true", "5;6", "\0", "9" * 30, "9" * 5000]),
    ("cursor", "next_cursor", ["", "x", "null", "é", "\0", "A" * 33, "A" * 5000, "_" * 43, "g" + "A" * 31]),
    ("sort", SORT, ["name", "", "+title", "--title", "Title"]),
    ("status", STATUS, ["done", "", "Pending"]),
    ("completed", BOOLEAN, ["1", "True", ""]),
    ("overdue", BOOLEAN, ["yes"]),
    ("has_due_date", BOOLEAN, ["null"]),
    ("priority", PRIORITY, ["urgent", "", ["low", "urgent"]]),
    ("priority", "at most 3", [["low", "medium", "high", "low"]]),
    ("tag", "1 to 10 characters", ["", "x" * 11, ["ok", " "]]),
    ("tag", "NUL", ["a\0b"]),
    ("tag", "repeat the parameter", ["a,b", ",", ["ok", "a,b"]]),
    ("priority", "repeat the parameter", ["low,high", ["low", "medium,high"]]),
    ("tag", "can be seen", ["\u200d", "\u0301", ["ok", "\u2800"]]),
    ("tag", "at most 20", [[f"tag{number}" for number in range(21)]]),
    ("due_before", TIMESTAMP, ["2030-01-01"]),
    ("due_after", "offset", ["2030-01-01T00:00:00"]),
    ("due_after", TIMESTAMP, ["2030-01-01T00:00:00+12:99", "2030-01-01T24:00:00Z"]),
    ("due_after", "%2B", ["2030-12-31T18:00:00 01:00"]),
    ("created_before", TIMESTAMP, ["now"]),
    ("created_after", TIMESTAMP, ["1700000000"]),
    ("updated_before", TIMESTAMP, [""]),
    ("updated_after", "no such date", ["2030-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59"]),
    ("q", "1 to 10 words", ["", " \t", "a b c d e f g h i j k"]),
    ("q", "at most 100 characters", ["x" * 101]),
    ("q", "NUL", ["a\0b"]),
    ("q", "1 to 10 words", ["\u200b", "\u2800 \u0301"]),
]


@pytest.mark.parametrize(("name", "hint", "values"), REFUSED, ids=str)
async def test_a_value_that_it_cannot_use_is_refused_by_name_with_what_it_can(
    client: Client, alice: UUID, name: str, hint: str, values: list[Any]
) -> None:
    for value in values:
        response = await client.get(f"{alice}/tasks", params={name: value})
        [error] = response.json()["errors"]
        assert_problem(response, 400, "invalid-input", error["field"])
        assert error["field"].partition(".")[0] == name
        assert hint in error["detail"]


async def test_a_parameter_with_one_value_may_be_given_only_once(client: Client, alice: UUID) -> None:
    for name in ("limit", "cursor", "sort", "status", "completed", "due_before", "overdue", "q"):
        response = await client.get(f"{alice}/tasks?{name}=5&{name}=5")
        assert "only once" in assert_problem(response, 400, "invalid-input", name)["errors"][0]["detail"]


async def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(client: Client, alice: UUID) -> None:
    for query in ("Status=pending", "colour=red&tags=home", "priority[]=low", "user_id=x", "=", "offset=5"):
        names = [part.partition("=")[0] for part in query.split("&")]
        document = assert_problem(await client.get(f"{alice}/tasks?{query}"), 400, "invalid-input", *names)
        assert "limit, cursor, sort, status" in document["errors"][0]["detail"]


async def test_operations_without_parameters_refuse_each(client: Client, alice: UUID, task: Json) -> None:
    for operation in OPERATIONS.values():
        if operation.is_of_a_user and not any(each["in"] == "query" for each in operation.parameters.values()):
            response = await call(client, operation, alice, task["id"], "?force=true")
            [error] = assert_problem(response, 400, "invalid-input", "force")["errors"]
            assert "there are none here" in error["detail"]


async def test_a_probe_may_be_asked_with_any_parameter(client: Client) -> None:
    # Load balancers add some against caches, and must not take the service for dead.
    assert (await client.get("v1/health?t=1")).status_code == 200
    assert (await client.get("v1/live?t=1")).status_code == 200


async def test_a_query_that_is_not_utf_8_is_refused(client: Client, alice: UUID) -> None:
    for query in ("%FF=1", "tag=%ff", "q=caf%e9", "tag=%ED%A0%80", "limit=5&%C0%AF"):
        assert_problem(await client.get(f"{alice}/tasks?{query}"), 400, "invalid-input", "query")


async def test_no_header_changes_how_a_query_is_read(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, title="café")
    for content_type in ("text/plain; charset=utf-16", "text/plain; charset=latin-1", "a" + ";" * 8_000, "/"):
        found = await client.get(f"{alice}/tasks?q=caf%C3%A9", headers={"Content-Type": content_type})
        assert found.json()["items"] == [task]


async def test_a_query_of_too_many_parameters_is_refused(client: Client, alice: UUID) -> None:
    query = "&".join(f"a{number}" for number in range(2000))

    assert_problem(await client.get(f"{alice}/tasks?{query}"), 400, "invalid-input", "query")


async def test_the_most_that_can_be_asked_at_once_is_answered(client: Client, alice: UUID) -> None:
    time = "2030-12-31T18:00:00.123456+01:00"
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
    } | {f"{name}_{side}": time for name in ("due", "created", "updated") for side in ("before", "after")}
    await make_task(client, alice)

    assert query.keys() <= OPERATIONS["list_tasks"].parameters.keys()
    assert (await client.get(f"{alice}/tasks", params=query)).json()["items"] == []
