"""The opaque cursor of a list."""

import re
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from todos import cursors
from todos.errors import InvalidInput

ID = UUID("3fa85f64-5717-4562-b3fc-2c963f66afa6")


@pytest.mark.parametrize(
    "created_at",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(2026, 11, 22, 3, 4, 5, 1, tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_a_cursor_comes_back_as_what_it_was_made_of(created_at: datetime) -> None:
    cursor = cursors.encode(created_at, ID)

    assert cursors.decode(cursor) == (created_at, ID)
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", cursor)


def test_two_tasks_of_one_moment_have_different_cursors() -> None:
    now = datetime.now(UTC)

    assert cursors.encode(now, uuid4()) != cursors.encode(now, uuid4())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "null",
        "=" * 32,
        "A" * 31,
        "A" * 33,
        "A" * 36,
        "é" * 32,
        "\0" * 32,
        "\ud800",
        "/" * 31,
        "_" * 28,
        "f" + "_" * 31,
        "g" + "A" * 31,
        "A" * 100_000,
        str(ID),
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_it_refuses_what_is_no_cursor_and_says_what_is(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        cursors.decode(text)

    [error] = refusal.value.errors
    assert error["field"] == "cursor"
    assert "next_cursor" in error["detail"]
