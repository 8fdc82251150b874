"""The command `manage.py seed_dev`."""

import asyncio
import re
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import bcrypt
import psycopg
import pytest
from psycopg.rows import dict_row

from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.users import create
from tests.support.databases import as_owner
from tests.support.nodes import SHARD
from tests.support.servers import ROOT, command
from todos import seed
from todos.management import base

EMAIL = "test@example.com"
PASSWORD = "Test123!@#"


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one takes a quarter of a second; `tests/api/test_passwords.py` makes those."""
    monkeypatch.setattr(bcrypt, "gensalt", partial(bcrypt.gensalt, rounds=4))


def query(dsn: Dsn, statement: str) -> list[dict[str, Any]]:
    with psycopg.connect(as_owner(dsn).conninfo, row_factory=dict_row) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def users(dsn: Dsn) -> list[dict[str, Any]]:
    return query(dsn, "SELECT * FROM users")


def tasks(dsn: Dsn) -> list[dict[str, Any]]:
    return query(dsn, "SELECT * FROM tasks ORDER BY created_at DESC")


def has_known_password(user: dict[str, Any]) -> bool:
    return bcrypt.checkpw(PASSWORD.encode(), user["password_hash"].encode())


def test_it_makes_the_user_with_the_known_password_and_five_tasks_of_every_kind(url: str, migrated_dsn: Dsn) -> None:
    outcome = command(url, "seed_dev")

    assert (outcome.status, outcome.err) == (0, "")
    [user] = users(migrated_dsn)
    assert (user["email"], user["is_active"], has_known_password(user)) == (EMAIL, True, True)
    assert f"User {EMAIL} made: {user['id']}" in outcome.out
    made = tasks(migrated_dsn)
    assert outcome.out.count("Task made: ") == len(made) == 5
    assert sorted(task["status"] for task in made) == ["completed"] * 3 + ["pending"] * 2
    assert all((task["completed_at"] is not None) == (task["status"] == "completed") for task in made)
    assert {task["priority"] for task in made} == {"low", "medium", "high"}
    due = [task["due_date"] for task in made if task["due_date"]]
    assert 0 < len(due) < 5
    assert {date.utcoffset() for date in due} == {timedelta(0)}
    tags = [task["tags"] for task in made if task["tags"]]
    assert 0 < len(tags) < 5
    assert all(tag == tag.strip().lower() and 1 <= len(tag) <= 10 for each in tags for tag in each)


def test_it_changes_nothing_when_run_again(url: str, migrated_dsn: Dsn) -> None:
    command(url, "seed_dev")
    users_before, tasks_before = users(migrated_dsn), tasks(migrated_dsn)

    for _ in range(2):
        outcome = command(url, "seed_dev")
        assert (outcome.status, outcome.err) == (0, "")
        assert f"User {EMAIL} was there: {users_before[0]['id']}" in outcome.out
        assert "All five tasks were there." in outcome.out
    assert users(migrated_dsn) == users_before
    assert tasks(migrated_dsn) == tasks_before


def test_it_makes_what_is_missing(url: str, migrated_dsn: Dsn) -> None:
    command(url, "seed_dev")
    titles = {task["title"] for task in tasks(migrated_dsn)}

    for damage, made in (
        ("DELETE FROM tasks", 5),
        ("DELETE FROM tasks WHERE status = 'pending'", 2),
        ("UPDATE tasks SET deleted_at = now() WHERE status = 'completed'", 3),
        ("DELETE FROM users", 5),
    ):
        query(migrated_dsn, damage)
        outcome = command(url, "seed_dev")

        assert outcome.status == 0
        assert outcome.out.count("Task made: ") == made
        [user], live = users(migrated_dsn), [task for task in tasks(migrated_dsn) if not task["deleted_at"]]
        assert (len(live), {task["title"] for task in live}) == (5, titles)
        assert max(task["version"] for task in live) == user["revision"]


def test_it_gives_a_user_a_missing_password_and_leaves_other_tasks_and_changed_tasks_alone(
    url: str, migrated_dsn: Dsn
) -> None:
    assert command(url, "create_user", EMAIL).status == 0
    assert "was there" in command(url, "seed_dev").out
    assert has_known_password(*users(migrated_dsn))
    query(migrated_dsn, "UPDATE tasks SET status = 'pending', completed_at = NULL, description = 'Mine'")
    query(migrated_dsn, "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), id, 'Extra' FROM users")

    command(url, "seed_dev")

    assert sorted(task["description"] or "-" for task in tasks(migrated_dsn)) == ["-"] + ["Mine"] * 5


def test_it_refuses_production(url: str, migrated_dsn: Dsn) -> None:
    for arguments in ([], ["--users", "1", "--tasks", "1"]):
        outcome = command(url, "seed_dev", *arguments, environment="production", auth_mode="trusted")

        assert (outcome.status, outcome.out) == (1, "")
        assert "refuses to run in production" in outcome.err
    assert users(migrated_dsn) == []


def test_it_makes_users_and_tasks_for_load_tests_up_to_a_number(url: str, migrated_dsn: Dsn) -> None:
    for users, tasks, made in ((2, 0, 0), (3, 10, 10), (3, 10, 0), (4, 20, 10)):
        outcome = command(url, "seed_dev", "--users", str(users), "--tasks", str(tasks))

        assert (outcome.status, outcome.err) == (0, "")
        assert f"{made} tasks made; {users} users have {tasks} in all." in outcome.out
    [row] = query(migrated_dsn, "SELECT count(*) FROM tasks JOIN users ON users.id = user_id WHERE email LIKE 'load-%'")
    assert row == {"count": 20}


@pytest.mark.parametrize(
    "numbers", ["--users 3", "--tasks 3", "--users 0 --tasks 3", "--users 3 --tasks -1", "--users many --tasks 3"]
)
def test_bad_numbers_are_refused_before_anything_is_made(numbers: str, url: str, migrated_dsn: Dsn) -> None:
    outcome = command(url, "seed_dev", *numbers.split())

    assert (outcome.status, outcome.out) == (1, "")
    assert "--users" in outcome.err
    assert users(migrated_dsn) == []


def test_any_number_at_once_make_five_tasks(url: str, migrated_dsn: Dsn) -> None:
    async def seed_once() -> None:
        async with open_database(as_owner(migrated_dsn)) as database:
            await seed.seed(database)

    async def seed_at_once() -> None:
        await asyncio.gather(*(seed_once() for _ in range(8)))

    for damage in ("", "DELETE FROM tasks WHERE status = 'pending'", "UPDATE users SET password_hash = '!'"):
        if damage:
            query(migrated_dsn, damage)
        asyncio.run(seed_at_once())
        [user] = users(migrated_dsn)
        assert has_known_password(user)
        assert len(tasks(migrated_dsn)) == 5
    assert "All five tasks were there." in command(url, "seed_dev").out


def test_users_made_at_once_with_one_address_are_one_user(url: str, migrated_dsn: Dsn) -> None:
    async def create_at_once() -> list[UUID | None]:
        async with open_database(as_owner(migrated_dsn)) as database:
            return await asyncio.gather(*(create(database, EMAIL) for _ in range(8)))

    made = asyncio.run(create_at_once())
    assert made.count(None) == 7
    assert "was there" in command(url, "seed_dev").out
    assert len(users(migrated_dsn)) == 1


def test_a_command_has_a_deadline_of_its_own_and_says_when_it_is_over(
    url: str, migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = command(url, "seed_dev", "--users", "1", "--tasks", "1", request_timeout=0.001)
    assert (seeded.status, seeded.err) == (0, "")
    monkeypatch.setattr(base, "TIMEOUT", 0.1)
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as other:
        other.execute("LOCK TABLE users")
        for line in ("seed_dev", "create_user alice@example.com"):
            late = command(url, *line.split())
            assert late.status == 1
            assert late.err.startswith("Error: The database did not answer in time")
            assert late.err.count("\n") == 1


def test_a_rule_that_the_data_break_is_one_line(url: str, migrated_dsn: Dsn) -> None:
    query(migrated_dsn, "ALTER TABLE tasks ADD CONSTRAINT no_food CHECK (title <> 'Buy groceries')")
    outcome = command(url, "seed_dev")
    assert (outcome.status, outcome.out) == (1, "")
    assert re.search(
        f'23514: new row for relation "tasks{SHARD}" violates check constraint "no_food{SHARD}"', outcome.err
    )
    assert outcome.err.count("\n") == 1
    assert users(migrated_dsn) == []


def test_the_script_is_the_command(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts/seed_dev.py"), "--users", "0", "--tasks", "1"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "Error: --users must be at least 1, and --tasks at least 0.\n")
