"""What the values of a task may be: tables of odd ones, accepted and refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from persistence.models import Priority, Status
from tests.support.helpers import address, assert_problem, get_task, make_task, send
from todos.types import Completed, Description, DueDate, Id, Tag, Tags, Title

NO_TEXT: list[Any] = [
    None,
    True,
    0,
    1.5,
    2**64,
    [],
    ["x"],
    {},
    {"x": 1},
    "a\0b",
    "\0",
    "\ud800",
    "x\udfff",
    "\udc00\ud800",
]
"""What is no text, or text that PostgreSQL cannot store."""

SPACE = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2000\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""Every form of white space that can stand around a text and does not count."""

NOT_SPACE = "\u200b\u200d\u2060\ufeff\u180e"
"""What looks like space and is a character."""


def _accepts(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("value", NO_TEXT, ids=ascii)
@pytest.mark.parametrize("kind", [Title, Description, Tag], ids=["title", "description", "tag"])
def test_it_refuses_what_is_no_text(kind: Any, value: Any) -> None:
    assert not _accepts(kind, value)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("x", "x"),
        ("x" * 200, "x" * 200),
        (" " * 500 + "x" * 200 + " " * 500, "x" * 200),
        ("\U0001f600" * 200, "\U0001f600" * 200),
        ("e\u0301" * 100, "e\u0301" * 100),
        ("a  b\tc\nd", "a  b\tc\nd"),
        *((f"{space}x{space}y{space}", f"x{space}y") for space in SPACE),
        *((character, character) for character in NOT_SPACE),
        ("\U0010ffff\ufffe", "\U0010ffff\ufffe"),
        ("\x01\x7f", "\x01\x7f"),
        ("\u0130I\u0131i", "\u0130I\u0131i"),
    ],
    ids=ascii,
)
async def test_a_title_is_stored_trimmed(client: httpx.AsyncClient, alice: UUID, text: str, title: str) -> None:
    task = await make_task(client, alice, title=text)

    assert task["title"] == title
    assert (await get_task(client, task))["title"] == title


@pytest.mark.parametrize("text", ["", " ", SPACE, "x" * 201, "\U0001f600" * 201, "e\u0301" * 100 + "e"], ids=ascii)
def test_it_refuses_a_title_that_is_empty_or_too_long(text: str) -> None:
    assert not _accepts(Title, text)


@pytest.mark.parametrize("text", ["", " ", "\n x \n", "x" * 1000, "\U0001f600" * 1000, SPACE], ids=ascii)
async def test_a_description_is_stored_as_it_is(client: httpx.AsyncClient, alice: UUID, text: str) -> None:
    assert (await make_task(client, alice, description=text))["description"] == text


@pytest.mark.parametrize("text", ["x" * 1001, " " * 1001, "\U0001f600" * 1001], ids=ascii)
def test_it_refuses_a_description_that_is_too_long(text: str) -> None:
    assert not _accepts(Description, text)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ([], []),
        (["a"], ["a"]),
        (["b", "a"], ["b", "a"]),
        (["Work", " work ", "WORK"], ["work"]),
        (["b", "a", "B", "A", "c"], ["b", "a", "c"]),
        (["\U0001f600" * 10], ["\U0001f600" * 10]),
        (["Straße", "STRASSE"], ["straße", "strasse"]),
        (["İ"], ["i\u0307"]),
        (["İ" * 5], ["i\u0307" * 5]),
        (["I", "\u0131"], ["i", "\u0131"]),
        (["ΟΔΟΣ"], ["οδος"]),
        (["Ǆ", "ǅ", "ǆ"], ["ǆ"]),
        (["\u212a"], ["k"]),
        (["\u13a0"], ["\uab70"]),
        (["in side"], ["in side"]),
        ([f"{space}x{space}" for space in SPACE], ["x"]),
        ([f" tag {number} " for number in range(20)], [f"tag {number}" for number in range(20)]),
        (["same"] * 100, ["same"]),
        (["null", '"', "{", "}", ",", "\\", "'", "a,b", "NULL"], ["null", '"', "{", "}", ",", "\\", "'", "a,b"]),
    ],
    ids=ascii,
)
async def test_tags_are_stored_trimmed_lower_case_and_once(
    client: httpx.AsyncClient, alice: UUID, sent: list[str], stored: list[str]
) -> None:
    task = await make_task(client, alice, tags=sent)

    assert task["tags"] == stored
    assert (await get_task(client, task))["tags"] == stored


@pytest.mark.parametrize(
    "tags",
    [
        None,
        "work",
        {"0": "work"},
        [""],
        [" "],
        [SPACE],
        ["x" * 11],
        ["\U0001f600" * 11],
        ["İ" * 6],
        [["work"]],
        [1],
        [None],
        ["ok", None],
        [f"tag{number}" for number in range(21)],
    ],
    ids=ascii,
)
def test_it_refuses_odd_tags(tags: Any) -> None:
    assert not _accepts(Tags, tags)


@pytest.mark.parametrize("tag", ["\ua7cb", "\ua7dc", "\U00010d50", "\u1c89", "\x1c", "\u0345", "ŉ", "ẞ"], ids=ascii)
async def test_a_tag_of_a_letter_that_python_and_postgresql_may_see_differently_is_never_a_failure(
    client: httpx.AsyncClient, alice: UUID, tag: str
) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "Buy milk", "tags": [tag]})

    assert response.status_code in (201, 400)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-12-31T17:00:00Z", "2030-12-31T17:00:00Z"),
        ("2030-12-31t17:00:00z", "2030-12-31T17:00:00Z"),
        ("2030-12-31 17:00:00Z", "2030-12-31T17:00:00Z"),
        ("2030-12-31T17:00:00+00:00", "2030-12-31T17:00:00Z"),
        ("2030-12-31T17:00:00-00:00", "2030-12-31T17:00:00Z"),
        ("2030-12-31T18:00:00+01:00", "2030-12-31T17:00:00Z"),
        ("2030-12-31T23:59:59-12:00", "2031-01-01T11:59:59Z"),
        ("2032-02-29T00:00:00+14:00", "2032-02-28T10:00:00Z"),
        ("2030-12-31T17:00:00.5Z", "2030-12-31T17:00:00.500000Z"),
        ("2030-12-31T17:00:00.000001Z", "2030-12-31T17:00:00.000001Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T23:59:00+23:59", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T00:00:59-23:59", "9999-12-31T23:59:59Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
async def test_a_due_date_is_a_moment_whatever_its_offset(
    client: httpx.AsyncClient, alice: UUID, text: str, moment: str
) -> None:
    task = await make_task(client, alice)
    response = await client.patch(f"{alice}/tasks/{task['id']}", json={"due_date": text})

    assert response.status_code == 200, response.text
    assert response.json()["due_date"] == moment
    assert (await get_task(client, task))["due_date"] == moment


@pytest.mark.parametrize(
    "value",
    [
        "",
        "tomorrow",
        "now",
        "infinity",
        "-infinity",
        "2030-12-31",
        "2030-12-31T17:00Z",
        "2030-12-31T17Z",
        "20301231T170000Z",
        "2030-W01-1T00:00:00Z",
        "2030-12-31T17:00:00.1234567Z",
        "2030-12-31T17:00:00,5Z",
        "2030-12-31T17:00:00.Z",
        "2030-12-31T17:00:00+1:00",
        "2030-12-31T17:00:00+0100",
        "2030-12-31T17:00:00+24:00",
        "2030-12-31T17:00:00+99:99",
        "2030-12-31T24:00:00Z",
        "2030-12-31T23:60:00Z",
        "2016-12-31T23:59:60Z",
        "2030-02-29T00:00:00Z",
        "2030-13-01T00:00:00Z",
        "2030-00-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        " 2030-12-31T17:00:00Z",
        "2030-12-31T17:00:00Z\n",
        "2030-12-31T17:00:00Z\0",
        "\u0662\u0660\u0663\u0660-12-31T17:00:00Z",
        "2030-12-31T17:00:00 UTC",
        "2030-12-31T17:00:00[Europe/Paris]",
        "\ud800",
        None,
        True,
        0,
        1924966800,
        1924966800.5,
        "1924966800",
        [],
        {},
    ],
    ids=ascii,
)
def test_it_refuses_what_is_no_due_date(value: Any) -> None:
    assert not _accepts(DueDate, value)


async def test_a_due_date_without_an_offset_is_refused_with_the_way_to_write_it(
    client: httpx.AsyncClient, alice: UUID
) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "x", "due_date": "2030-12-31T17:00:00"})

    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert error["field"] == "due_date"
    assert "offset" in error["detail"]
    assert "2030-12-31T18:00:00+01:00" in error["detail"]


async def test_only_a_new_task_must_have_its_due_date_before_it(client: httpx.AsyncClient, alice: UUID) -> None:
    now = datetime.now(UTC)
    past, future = (now - timedelta(seconds=2)).isoformat(), (now + timedelta(minutes=1)).isoformat()
    late = await client.post(f"{alice}/tasks", json={"title": "x", "due_date": past})

    assert_problem(late, 400, "invalid-input", "due_date")
    task = await make_task(client, alice, due_date=future)
    assert (await client.patch(address(task), json={"due_date": past})).status_code == 200


@pytest.mark.parametrize("value", [0, 1, "true", "false", "yes", "", None, [], 1.0], ids=ascii)
def test_completed_is_true_or_false_and_nothing_like_it(value: Any) -> None:
    assert not _accepts(Completed, value)


@pytest.mark.parametrize(
    "value", ["", "done", "Pending", "COMPLETED", " pending", 0, None, True, [], {}, "\ud800", "\0"]
)
async def test_it_refuses_other_statuses_and_priorities(client: httpx.AsyncClient, alice: UUID, value: Any) -> None:
    task = await make_task(client, alice)
    body = json.dumps({"status": value, "priority": value}).encode()
    response = await send(client, "PATCH", address(task), body)

    assert response.status_code == 400
    assert {error["field"] for error in response.json()["errors"]} == {"status", "priority"}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("priority", list(Priority))
async def test_it_takes_every_status_and_priority(
    client: httpx.AsyncClient, alice: UUID, status: Status, priority: Priority
) -> None:
    task = await make_task(client, alice, status=status.value, priority=priority.value)

    assert (task["status"], task["priority"]) == (status.value, priority.value)


@pytest.mark.parametrize("value", ["3fa85f64-5717-4562-b3fc-2c963f66afa6", "00000000-0000-0000-0000-000000000000"])
def test_an_id_is_a_uuid_of_any_kind(value: str) -> None:
    assert TypeAdapter(Id).validate_python(value) == UUID(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "3fa85f6457174562b3fc2c963f66afa6",
        "{3fa85f64-5717-4562-b3fc-2c963f66afa6}",
        "urn:uuid:3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "3fa85f64-5717-4562-b3fc-2c963f66afa",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6\n",
        " 3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "3fa85f64-5717-4562-b3fc-2c963f66afag",
        "\uff13fa85f64-5717-4562-b3fc-2c963f66afa6",
        "\ud800",
        None,
        0,
        2**127,
        b"0123456789abcdef",
    ],
    ids=ascii,
)
def test_it_refuses_what_is_no_uuid(value: Any) -> None:
    assert not _accepts(Id, value)


HUGE: list[str] = [
    "9" * 19,
    "-" + "9" * 18,
    "18446744073709551616",
    "1e308",
    "1.5",
    "-0",
    "9" * 400,
    "1e400",
    "[]",
    "{}",
]


@pytest.mark.parametrize("literal", HUGE, ids=lambda literal: literal[:25])
@pytest.mark.parametrize("field", ["title", "description", "status", "completed", "priority", "due_date", "tags", "id"])
async def test_no_odd_number_is_a_failure_anywhere(
    client: httpx.AsyncClient, alice: UUID, field: str, literal: str
) -> None:
    task = await make_task(client, alice)
    response = await send(client, "PATCH", address(task), f'{{"{field}": {literal}}}'.encode())

    assert response.status_code == (200 if (field, literal) == ("tags", "[]") else 400)
