"""The command `manage.py seed_dev`."""

from datetime import timedelta
from typing import Any

import bcrypt
import psycopg
import pytest
from psycopg.rows import dict_row

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.servers import command, url_of

EMAIL = "test@example.com"
PASSWORD = "Test123!@#"


@pytest.fixture
def url(empty_dsn: Dsn) -> str:
    migrator.migrate(empty_dsn)
    return url_of(empty_dsn)


def query(dsn: Dsn, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn.conninfo, row_factory=dict_row) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def tasks(dsn: Dsn) -> list[dict[str, Any]]:
    return query(dsn, "SELECT * FROM tasks ORDER BY created_at DESC")


def test_it_makes_the_user_with_the_known_password(url: str, empty_dsn: Dsn) -> None:
    outcome = command(url, "seed_dev")

    assert (outcome.status, outcome.err) == (0, "")
    [user] = query(empty_dsn, "SELECT * FROM users")
    assert user["email"] == EMAIL
    assert bcrypt.checkpw(PASSWORD.encode(), user["password_hash"].encode())
    assert user["is_active"]
    assert f"User {EMAIL} made: {user['id']}" in outcome.out


def test_it_makes_five_tasks_of_every_kind(url: str, empty_dsn: Dsn) -> None:
    outcome = command(url, "seed_dev")
    made = tasks(empty_dsn)

    assert len(made) == 5
    assert sorted(task["status"] for task in made) == ["completed"] * 3 + ["pending"] * 2
    assert all((task["completed_at"] is not None) == (task["status"] == "completed") for task in made)
    assert {task["priority"] for task in made} == {"low", "medium", "high"}
    due = [task["due_date"] for task in made if task["due_date"]]
    assert 0 < len(due) < 5
    assert {moment.utcoffset() for moment in due} == {timedelta(0)}
    tags = [task["tags"] for task in made if task["tags"]]
    assert 0 < len(tags) < 5
    assert all(tag == tag.strip().lower() and 1 <= len(tag) <= 10 for each in tags for tag in each)
    assert outcome.out.count("Task made: ") == 5


def test_it_changes_nothing_when_run_again(url: str, empty_dsn: Dsn) -> None:
    command(url, "seed_dev")
    users_before, tasks_before = query(empty_dsn, "SELECT * FROM users"), tasks(empty_dsn)

    for _ in range(2):
        outcome = command(url, "seed_dev")
        assert (outcome.status, outcome.err) == (0, "")
        assert f"User {EMAIL} was there: {users_before[0]['id']}" in outcome.out
        assert "All five tasks were there." in outcome.out
    assert query(empty_dsn, "SELECT * FROM users") == users_before
    assert tasks(empty_dsn) == tasks_before


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        ("DELETE FROM tasks", 5),
        ("DELETE FROM tasks WHERE status = 'pending'", 2),
        ("DELETE FROM users", 5),
    ],
)
def test_it_mends_what_is_missing(damage: str, mended: int, url: str, empty_dsn: Dsn) -> None:
    command(url, "seed_dev")
    before = {task["title"] for task in tasks(empty_dsn)}
    query(empty_dsn, damage)

    outcome = command(url, "seed_dev")

    assert outcome.status == 0
    assert outcome.out.count("Task made: ") == mended
    assert len(tasks(empty_dsn)) == 5
    assert {task["title"] for task in tasks(empty_dsn)} == before


def test_it_gives_a_user_without_a_password_the_known_one(url: str, empty_dsn: Dsn) -> None:
    assert command(url, "create_user", EMAIL).status == 0

    outcome = command(url, "seed_dev")

    assert "was there" in outcome.out
    [user] = query(empty_dsn, "SELECT password_hash FROM users")
    assert bcrypt.checkpw(PASSWORD.encode(), user["password_hash"].encode())


def test_it_leaves_other_tasks_and_changed_tasks_alone(url: str, empty_dsn: Dsn) -> None:
    command(url, "seed_dev")
    query(empty_dsn, "UPDATE tasks SET status = 'pending', completed_at = NULL, description = 'Mine'")
    query(empty_dsn, "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), id, 'Extra' FROM users")

    command(url, "seed_dev")

    assert sorted(task["description"] or "-" for task in tasks(empty_dsn)) == ["-"] + ["Mine"] * 5


def test_it_refuses_production(url: str, empty_dsn: Dsn) -> None:
    for arguments in ([], ["--users", "1", "--tasks", "1"]):
        outcome = command(url, "seed_dev", *arguments, environment="production")

        assert (outcome.status, outcome.out) == (1, "")
        assert "refuses to run in production" in outcome.err
    assert query(empty_dsn, "SELECT * FROM users") == []


def test_without_migrations_it_says_what_to_do(empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), "seed_dev")

    assert (outcome.status, outcome.out) == (1, "")
    assert "migrate_sql" in outcome.err
    assert "Traceback" not in outcome.err


def shares(dsn: Dsn) -> list[int]:
    rows = query(
        dsn,
        "SELECT count(tasks.id) FROM users LEFT JOIN tasks ON user_id = users.id WHERE email LIKE 'load-%'"
        " GROUP BY users.id ORDER BY substring(email, '[0-9]+')::int",
    )
    return [row["count"] for row in rows]


def test_bulk_data_is_spread_evenly_and_made_up_to_the_number(url: str, empty_dsn: Dsn) -> None:
    first = command(url, "seed_dev", "--users", "3", "--tasks", "10")
    assert (first.status, first.err) == (0, "")
    assert "10 tasks made; 3 users have 10 in all." in first.out
    assert shares(empty_dsn) == [4, 3, 3]

    again = command(url, "seed_dev", "--users", "3", "--tasks", "10")
    assert "0 tasks made; 3 users have 10 in all." in again.out
    assert shares(empty_dsn) == [4, 3, 3]

    more = command(url, "seed_dev", "--users", "4", "--tasks", "20")
    assert "10 tasks made; 4 users have 20 in all." in more.out
    assert shares(empty_dsn) == [5, 5, 5, 5]


@pytest.mark.slow
def test_bulk_data_of_several_batches_is_varied(url: str, empty_dsn: Dsn) -> None:
    outcome = command(url, "seed_dev", "--users", "7", "--tasks", "45000")

    assert (outcome.status, outcome.err) == (0, "")
    assert sum(shares(empty_dsn)) == 45_000
    assert max(shares(empty_dsn)) - min(shares(empty_dsn)) <= 1
    [kinds] = query(
        empty_dsn,
        "SELECT count(DISTINCT status) AS statuses, count(DISTINCT priority) AS priorities,"
        " count(DISTINCT tags) > 100 AS varied_tags, count(due_date) > 0 AS some_due,"
        " bool_and(tasks.created_at < now()) AS past"
        " FROM tasks JOIN users ON users.id = user_id WHERE email LIKE 'load-%'",
    )
    assert kinds == {"statuses": 2, "priorities": 3, "varied_tags": True, "some_due": True, "past": True}


def test_no_bulk_tasks_still_make_the_users(url: str, empty_dsn: Dsn) -> None:
    assert command(url, "seed_dev", "--users", "2", "--tasks", "0").status == 0
    assert shares(empty_dsn) == [0, 0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "3"],
        ["--tasks", "3"],
        ["--users", "0", "--tasks", "3"],
        ["--users", "3", "--tasks", "-1"],
        ["--users", "many", "--tasks", "3"],
    ],
)
def test_bad_numbers_are_refused_before_anything_is_made(arguments: list[str], url: str, empty_dsn: Dsn) -> None:
    outcome = command(url, "seed_dev", *arguments)

    assert (outcome.status, outcome.out) == (1, "")
    assert "--users" in outcome.err
    assert query(empty_dsn, "SELECT * FROM users") == []
