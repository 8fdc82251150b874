"""The command `manage.py list_users`."""

import json
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner
from tests.support.servers import command, url_of

ALICE, BOB, CAROL = (UUID(int=number) for number in (3, 2, 1))


@pytest.fixture
def url(migrated_dsn: Dsn) -> str:
    """A database with Alice, who has two tasks, Bob, who signs in elsewhere, and Carol, who is erased."""
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as connection:
        connection.execute(
            "INSERT INTO users (id, email, is_active, is_erased, created_at) VALUES"
            " (%s, 'alice@example.com', true, false, '2026-05-04 12:00Z'),"
            " (%s, NULL, true, false, '2026-05-05 12:00Z'), (%s, NULL, false, true, '2026-05-06 12:00Z')",
            [ALICE, BOB, CAROL],
        )
        for _ in range(2):
            connection.execute("INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'x')", [uuid4(), ALICE])
    return url_of(migrated_dsn)


def test_it_lists_users_from_the_oldest_without_those_that_are_erased(url: str) -> None:
    outcome = command(url, "list_users")

    assert (outcome.status, outcome.err) == (0, "")
    assert [line.split() for line in outcome.out.splitlines()] == [
        ["id", "created", "tasks", "e-mail"],
        [str(ALICE), "2026-05-04T12:00:00.000000Z", "2", "alice@example.com"],
        [str(BOB), "2026-05-05T12:00:00.000000Z", "0", "-"],
    ]


def test_it_lists_the_marks_when_asked(url: str) -> None:
    assert [line.split() for line in command(url, "list_users", "--erased").out.splitlines()] == [
        ["id", "erased", "tasks", "e-mail"],
        [str(CAROL), "2026-05-06T12:00:00.000000Z", "0", "-"],
    ]


def test_it_prints_an_object_in_each_line(url: str) -> None:
    first, second = command(url, "list_users", "--json").out.splitlines()
    assert json.loads(first) == {
        "id": str(ALICE), "email": "alice@example.com", "created_at": "2026-05-04T12:00:00.000000Z", "tasks": 2,
    }  # fmt: skip
    assert json.loads(second)["email"] is None
    [mark] = command(url, "list_users", "--json", "--erased").out.splitlines()
    assert json.loads(mark)["id"] == str(CAROL)
