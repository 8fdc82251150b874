"""Revisions 0007 and 0008 on tasks of before: text becomes NFC, and nobody waits (D45)."""

from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import migrator
from persistence.history import MigrationError
from persistence.postgres.dsn import Dsn
from tests.database.helpers import Admin
from tests.support.databases import new_user
from tests.support.servers import eventually

NFD, NFC = "cafe\u0301", "caf\xe9"
GROWS = "\u0958"
"""A letter that is two in NFC."""


@pytest.fixture
def user(empty_dsn: Dsn) -> UUID:
    migrator.migrate(empty_dsn, "0006")
    return new_user(empty_dsn)


def insert(admin: Admin, user: UUID, title: str, description: str | None = None, *tags: str) -> UUID:
    task = uuid4()
    admin.execute(
        "INSERT INTO tasks (id, user_id, title, description, tags, created_at, updated_at, version)"
        " VALUES (%s, %s, %s, %s, %s, '2001-01-01 00:00Z', '2001-01-01 00:00Z', 7)",
        task, user, title, description, list(tags),
    )  # fmt: skip
    return task


def stored(admin: Admin, task: UUID) -> tuple[Any, ...]:
    [row] = admin.execute("SELECT title, description, tags, version, extract(year FROM updated_at) FROM tasks"
                          " WHERE id = %s", task)  # fmt: skip
    return row


def test_text_becomes_nfc_and_equal_tags_one_and_the_task_has_changed(empty_dsn: Dsn, admin: Admin, user: UUID) -> None:
    title, description = insert(admin, user, NFD), insert(admin, user, "x", NFD)
    tags = insert(admin, user, "y", None, "b", NFD, "a", NFC, "B".lower() + "\u0301")
    alike = insert(admin, user, NFC, NFC, NFC, "\U0001f469\u200d\U0001f680")

    migrator.migrate(empty_dsn)

    assert stored(admin, title)[:4] == (NFC, None, [], 8)
    assert stored(admin, description)[:4] == ("x", NFC, [], 8)
    assert stored(admin, tags)[:4] == ("y", None, ["b", NFC, "a", "b\u0301"], 8)
    assert [stored(admin, task)[4] > 2001 for task in (title, description, tags)] == [True] * 3
    assert stored(admin, alike) == (NFC, NFC, [NFC, "\U0001f469\u200d\U0001f680"], 7, 2001)
    admin.execute("SELECT 1 / count(*) FROM tasks WHERE tag_keys(user_id, tags) @> tag_keys(%s, %s)", user, [NFC])
    # The way back keeps them, and so does another way up.
    migrator.migrate(empty_dsn, "0006")
    migrator.migrate(empty_dsn)
    assert stored(admin, tags)[2:4] == (["b", NFC, "a", "b\u0301"], 8)


def test_what_would_grow_over_its_limit_stays_as_it_is(empty_dsn: Dsn, admin: Admin, user: UUID) -> None:
    task = insert(admin, user, GROWS * 200, NFD, GROWS * 6, NFD)
    whole = insert(admin, user, "x", GROWS * 1000, GROWS * 5)

    migrator.migrate(empty_dsn)

    assert stored(admin, task)[:4] == (GROWS * 200, NFC, [GROWS * 6, NFC], 8)
    assert stored(admin, whole)[:4] == ("x", GROWS * 1000, ["\u0915\u093c" * 5], 8)


def test_what_the_locale_let_in_may_stay_and_be_changed(empty_dsn: Dsn, admin: Admin, user: UUID) -> None:
    # None of them could be sent today.
    task = insert(admin, user, "\u200b", None, "a,b", "\u2800")
    migrator.migrate(empty_dsn)
    admin.execute("UPDATE tasks SET description = 'new' WHERE id = %s", task)
    assert stored(admin, task)[:3] == ("\u200b", "new", ["a,b", "\u2800"])


def test_each_task_is_committed_by_itself_and_the_rest_after_a_failure(
    empty_dsn: Dsn, admin: Admin, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrator, "LOCK_TIMEOUT", "1s")
    tasks = [insert(admin, user, f"{NFD} {number}") for number in range(3)]
    migrator.migrate(empty_dsn, "0007")
    failures: list[str] = []

    def migrate() -> None:
        try:
            migrator.migrate(empty_dsn)
        except MigrationError as error:
            failures.append(str(error))

    with psycopg.connect(empty_dsn.conninfo) as other:
        other.execute("SELECT FROM tasks WHERE id = %s FOR UPDATE", [tasks[1]])
        migration = Thread(target=migrate)
        migration.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        eventually(lambda: admin.value(waiting) > 0 or bool(failures))
        # A request meets no lock, be its task done or not yet.
        admin.execute("SET lock_timeout = '1ms'")
        assert stored(admin, tasks[0])[3] == 8
        admin.execute("UPDATE tasks SET priority = 'high' WHERE id IN (%s, %s)", tasks[0], tasks[2])
        insert(admin, user, "new")
        migration.join()
    assert "run it again when the database is less busy" in failures[0]
    assert migrator.current(empty_dsn) == "0007"

    migrator.migrate(empty_dsn)

    assert [stored(admin, task)[0] for task in tasks] == [f"{NFC} {number}" for number in range(3)]
