"""The opaque cursor of a list."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.task_lists import SortKey
from todos import cursors
from todos.errors import InvalidInput

ALICE, ID = UUID("055fcdb6-2179-4226-9200-60ebedb11f2c"), UUID("3fa85f64-5717-4562-b3fc-2c963f66afa6")
NOW = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


def a_list(sort: SortKey = "created_at", *, descending: bool = True, **filters: Any) -> cursors.ListCursors:
    return cursors.ListCursors(ALICE, filters, sort, descending=descending)


def assert_refused(where: cursors.ListCursors, cursor: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        where.decode(cursor)
    [error] = refusal.value.errors
    assert error["field"] == "cursor"
    assert "next_cursor" in error["detail"]


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        NOW,
        datetime(2026, 11, 22, 3, 4, 5, 1, tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
@pytest.mark.parametrize("sort", ["created_at", "updated_at", "due_date"])
def test_a_moment_comes_back_to_the_microsecond(sort: SortKey, moment: datetime) -> None:
    cursor = a_list(sort).encode((moment, ID))

    assert a_list(sort).decode(cursor) == (moment, ID)


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("due_date", None),
        ("priority", "medium"),
        ("title", "x"),
        ("title", "Größe \U0001f95b \x01"),
        ("title", "\U0001f95b" * 200),
    ],
)
def test_every_kind_of_sort_value_comes_back(sort: SortKey, value: Any) -> None:
    cursor = a_list(sort).encode((value, ID))

    assert a_list(sort).decode(cursor) == (value, ID)
    assert len(cursor) <= cursors.MAX_LENGTH
    assert re.fullmatch(cursors.PATTERN, cursor)


def test_two_tasks_of_one_moment_have_different_cursors() -> None:
    assert a_list().encode((NOW, uuid4())) != a_list().encode((NOW, uuid4()))


@pytest.mark.parametrize(
    "other",
    [
        cursors.ListCursors(uuid4(), {}, "created_at", descending=True),
        a_list(descending=False),
        a_list("updated_at"),
        a_list("due_date"),
        a_list("title"),
        a_list(status="pending"),
        a_list(tags=["a"]),
        a_list(words=["a"]),
        a_list(overdue=None),
        a_list(due_before=NOW),
    ],
)
def test_it_is_good_for_one_list_only(other: cursors.ListCursors) -> None:
    assert_refused(other, a_list().encode((NOW, ID)))


def test_a_change_of_a_filters_value_makes_another_list() -> None:
    cursor = a_list(tags=["a", "b"]).encode((NOW, ID))

    assert a_list(tags=["a", "b"]).decode(cursor) == (NOW, ID)
    assert_refused(a_list(tags=["ab"]), cursor)
    assert_refused(a_list(words=["a", "b"]), cursor)


def test_a_change_of_any_character_is_noticed() -> None:
    cursor = a_list().encode((NOW, ID))
    for place, character in enumerate(cursor):
        for other in "AQgw_-9z":
            if other != character:
                assert_refused(a_list(), cursor[:place] + other + cursor[place + 1 :])


@pytest.mark.parametrize("end", ["=", "==", "A", "\n", " ", "%3D"])
def test_what_is_added_is_noticed(end: str) -> None:
    assert_refused(a_list(), a_list().encode((NOW, ID)) + end)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "null", "=" * 32, "A" * 31, "A" * 33, "A" * 36, "é" * 32, "\0" * 32, "\ud800", "/" * 31, "_" * 28,
        "f" + "_" * 31, "g" + "A" * 31, "A" * 100_000, str(ID),
    ],
    ids=lambda text: ascii(text)[:30],
)  # fmt: skip
@pytest.mark.parametrize("sort", ["created_at", "due_date", "title"])
def test_it_refuses_what_is_no_cursor_and_says_what_is(sort: SortKey, text: str) -> None:
    assert_refused(a_list(sort), text)
