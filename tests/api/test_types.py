"""The values that the fields of a task take: tables of odd ones, stored and refused."""

from typing import Any

import pytest

from tests.support.contract import SCHEMAS, Json
from tests.support.helpers import WRITES, Client, address, assert_problem, get_task, write

NOT_TEXT: list[Any] = [True, 0, 1.5, 2**63, [], ["x"], {}, {"x": 1}, "a\0b", "\0", "\ud800", "x\udfff", "\udc00\ud800"]
"""Values that are not text, or text that PostgreSQL cannot store."""

SPACE = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2002\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""Every form of white space that can stand around a text and does not count."""


async def assert_stored(client: Client, task: Json, field: str, sent: Any, stored: Any) -> None:
    """POST and PATCH answer with the value, and so does GET."""
    for method in ("POST", "PATCH"):
        response = await write(client, method, task, {"title": "x", field: sent})
        assert response.is_success, response.text
        assert response.json()[field] == stored
    assert (await get_task(client, task))[field] == stored


async def assert_refused(client: Client, task: Json, field: str, *values: Any) -> None:
    for value in values:
        document = (await write(client, "PATCH", task, {field: value})).json()
        assert document["status"] == 400, value
        assert {error["field"].partition(".")[0] for error in document["errors"]} == {field}, value
    assert await get_task(client, task) == task


@pytest.mark.parametrize("field", ["title", "description", "tags"])
async def test_it_refuses_what_is_not_text(client: Client, task: Json, field: str) -> None:
    await assert_refused(client, task, field, *([value] if field == "tags" else value for value in NOT_TEXT))


SQL = ["'; DROP TABLE tasks; --", "%s %(title)s {title} :title $1", "\\", '"', "\\x00"]
TITLES = [
    "x" * 200, "\U0001f600" * 200, "\xe9" * 200, "a  b\tc\nd", "\U0010ffff\ufffe", "\x01x", "\u0130I\u0131i", *SQL,
]  # fmt: skip
DESCRIPTIONS = ["", " ", "\n x \n", "x" * 1000, "\U0001f600" * 1000, SPACE, *SQL]


async def test_text_is_stored_as_it_is_and_never_read_as_sql(client: Client, task: Json) -> None:
    for field, texts in (("title", TITLES), ("description", DESCRIPTIONS)):
        for text in texts:
            await assert_stored(client, task, field, text, text)


async def test_a_title_and_tags_are_stored_without_any_form_of_space_around_them(client: Client, task: Json) -> None:
    for space in SPACE:
        await assert_stored(client, task, "title", f"{space}x{space}y{space}", f"x{space}y")
    await assert_stored(client, task, "title", " " * 500 + "x" * 200 + " " * 500, "x" * 200)
    await assert_stored(client, task, "tags", [f"{space}x{space}" for space in SPACE], ["x"])


async def test_it_refuses_text_that_is_too_long_and_a_title_that_is_empty(client: Client, task: Json) -> None:
    titles = ["", " ", SPACE, "x" * 201, "\U0001f600" * 201, "e\u0301" * 201]
    await assert_refused(client, task, "title", *titles)
    await assert_refused(client, task, "description", "x" * 1001, " " * 1001, "\U0001f600" * 1001)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ([], []),
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
        ([f" tag {number} " for number in range(20)], [f"tag {number}" for number in range(20)]),
        (["same"] * 100, ["same"]),
        (["null", '"', "{", "}", "\\", "'", "NULL"], ["null", '"', "{", "}", "\\", "'"]),
    ],
    ids=ascii,
)
async def test_tags_are_stored_trimmed_lower_case_and_once(
    client: Client, task: Json, sent: list[str], stored: list[str]
) -> None:
    await assert_stored(client, task, "tags", sent, stored)


async def test_it_refuses_odd_tags(client: Client, task: Json) -> None:
    tags = ["", " ", SPACE, "x" * 11, "\U0001f600" * 11, "İ" * 6, ["work"], 1, None]
    await assert_refused(client, task, "tags", "work", {"0": "work"}, *([tag] for tag in tags), ["ok", None])
    await assert_refused(client, task, "tags", [f"tag{number}" for number in range(21)])


async def test_a_tag_of_a_letter_that_python_and_postgresql_may_see_differently_is_never_a_failure(
    client: Client, task: Json
) -> None:
    for tag in ("\ua7cb", "\ua7dc", "\U00010d50", "\u1c89", "\x1c", "\u0345", "ŉ", "ẞ"):
        assert (await write(client, "POST", task, {"title": "x", "tags": [tag]})).status_code in (201, 400), ascii(tag)


@pytest.mark.parametrize(
    ("text", "timestamp"),
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
        # As .NET and Go write it: cut, not rounded.
        ("2030-12-31T17:00:00.1234567Z", "2030-12-31T17:00:00.123456Z"),
        ("2030-12-31T18:59:59.999999999+01:00", "2030-12-31T17:59:59.999999Z"),
        ("9999-12-31T23:59:59.99999999Z", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T23:59:00+23:59", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T00:00:59-23:59", "9999-12-31T23:59:59Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
async def test_a_due_date_is_a_timestamp_whatever_its_offset(
    client: Client, task: Json, text: str, timestamp: str
) -> None:
    response = await client.patch(address(task), json={"due_date": text})

    assert response.json()["due_date"] == timestamp
    assert (await get_task(client, task))["due_date"] == timestamp


NOT_TIMESTAMPS: list[Any] = [
    "", "tomorrow", "now", "infinity", "-infinity", "2030-12-31", "2030-12-31T17:00Z", "2030-12-31T17Z",
    "20301231T170000Z", "2030-W01-1T00:00:00Z", "2030-12-31T17:00:00.1234567890Z", "2030-12-31T17:00:00,5Z",
    "2030-12-31T17:00:00.Z", "2030-12-31T17:00:00+1:00", "2030-12-31T17:00:00+0100", "2030-12-31T17:00:00+24:00",
    "2030-12-31T17:00:00+99:99", "2030-12-31T24:00:00Z", "2030-12-31T23:60:00Z", "2016-12-31T23:59:60Z",
    "2030-02-29T00:00:00Z", "2030-13-01T00:00:00Z", "2030-00-01T00:00:00Z", "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
    " 2030-12-31T17:00:00Z", "2030-12-31T17:00:00Z\n", "2030-12-31T17:00:00Z\0", "2030-12-31T17:00:00 UTC",
    "\u0662\u0660\u0663\u0660-12-31T17:00:00Z", "2030-12-31T17:00:00[Europe/Paris]", "\ud800", "1924966800",
    True, 0, 1924966800, 1924966800.5, [], {},
]  # fmt: skip


async def test_it_refuses_what_is_not_a_timestamp(client: Client, task: Json) -> None:
    await assert_refused(client, task, "due_date", *NOT_TIMESTAMPS)


@pytest.mark.parametrize("method", WRITES)
async def test_a_due_date_without_an_offset_is_refused_with_the_way_to_write_it(
    client: Client, task: Json, method: str
) -> None:
    response = await write(client, method, task, {"title": "x", "due_date": "2030-12-31T17:00:00"})

    [error] = assert_problem(response, 400, "invalid-input", "due_date")["errors"]
    assert "offset" in error["detail"]
    assert "2030-12-31T18:00:00+01:00" in error["detail"]


async def test_it_takes_every_status_and_priority_and_no_other(client: Client, task: Json) -> None:
    for field in ("status", "priority"):
        values = SCHEMAS[field.title()]["enum"]
        others = ["", "done", values[0].title(), values[0].upper(), f" {values[0]}", 0, True, [], {}, "\ud800", "\0"]
        await assert_refused(client, task, field, *others)
    for status in SCHEMAS["Status"]["enum"]:
        for priority in SCHEMAS["Priority"]["enum"]:
            changed = (await write(client, "PATCH", task, {"status": status, "priority": priority})).json()
            assert (changed["status"], changed["priority"]) == (status, priority)


async def test_completed_is_true_or_false_and_nothing_like_it(client: Client, task: Json) -> None:
    await assert_refused(client, task, "completed", 0, 1, "true", "false", "yes", "", [], 1.0)
