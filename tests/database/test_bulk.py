"""Data by the million: as much as asked for, spread evenly, valid, and never twice."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from persistence import task_lists, tasks, users
from persistence.development import bulk
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import Admin
from tests.support.databases import as_owner


@pytest.fixture
async def empty(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    """A migrated database without users, for its owner."""
    async with open_database(as_owner(migrated_dsn)) as database:
        yield database


async def fill(database: Database, users: int, tasks: int) -> list[int]:
    return [added async for added in bulk.fill(database, users, tasks)]


def counts(admin: Admin) -> dict[str, int]:
    query = "SELECT email, count(tasks.id) FROM users LEFT JOIN tasks ON user_id = users.id GROUP BY email"
    return dict(admin.execute(query))


def column(admin: Admin, expression: str) -> set[object]:
    return {value for (value,) in admin.execute(f"SELECT {expression} FROM tasks")}


async def test_it_spreads_the_tasks_evenly_in_batches_and_leaves_other_users_alone(
    empty: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 4)
    await users.create(empty, "alice@example.com", "Alice")
    others = {"alice@example.com": 0}
    assert await fill(empty, 2, 0) == []
    assert counts(admin) == others | {"load-1@example.com": 0, "load-2@example.com": 0}
    assert await fill(empty, 2, 9) == [4, 4, 1]
    assert counts(admin) == others | {"load-1@example.com": 5, "load-2@example.com": 4}
    assert await fill(empty, 2, 17) == [4, 4]
    assert counts(admin) == others | {"load-1@example.com": 9, "load-2@example.com": 8}


async def test_each_task_has_a_version_of_its_own_that_is_newer_than_all_before_it(
    empty: Database, admin: Admin
) -> None:
    await fill(empty, 2, 10)
    # A clock that is behind changes nothing.
    admin.execute("UPDATE users SET revision = revision + 60000000")
    seen = dict(admin.execute("SELECT id, revision FROM users"))
    await fill(empty, 2, 16)
    versions = admin.execute("SELECT user_id, version FROM tasks")
    for owner, revision in admin.execute("SELECT id, revision FROM users"):
        own = sorted(version for user_id, version in versions if user_id == owner)
        assert own[5:] == [seen[owner] + 1, seen[owner] + 2, seen[owner] + 3]
        assert own[-1] == revision
        assert len({*own}) == 8


async def test_it_makes_up_only_what_is_missing_and_takes_no_task_away(empty: Database, admin: Admin) -> None:
    await fill(empty, 2, 10)
    assert await fill(empty, 2, 10) == []
    assert await fill(empty, 2, 4) == []
    admin.execute("UPDATE tasks SET deleted_at = now() WHERE title = 'Task 1 of 5'")
    assert await fill(empty, 2, 10) == [2]
    admin.execute("DELETE FROM tasks WHERE deleted_at IS NOT NULL")
    # The shares are 3, 3, 2 and 2, and the first two users have theirs already.
    assert await fill(empty, 4, 10) == [4]
    assert sorted(counts(admin).values()) == [2, 2, 5, 5]


async def test_the_batches_before_it_is_stopped_stay_whole(
    empty: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 4)
    filling = bulk.fill(empty, 1, 20)
    await anext(filling)
    await anext(filling)
    await filling.aclose()  # type: ignore[attr-defined] # an async generator has it
    assert counts(admin) == {"load-1@example.com": 8}
    assert empty.pool.stats.in_use == 0
    assert sum(await fill(empty, 1, 20)) == 12


async def test_the_tasks_are_of_every_kind_and_behave_like_any_other(empty: Database, admin: Admin) -> None:
    await fill(empty, 2, 300)
    assert column(admin, "status::text") == {"pending", "completed"}
    assert column(admin, "priority::text") == {"low", "medium", "high"}
    assert column(admin, "due_date IS NULL") == {True, False}
    assert column(admin, "description IS NULL") == {True, False}
    assert column(admin, "cardinality(tags)") == {0, 1, 2, 3}
    assert column(admin, "created_at <= now()") == {True}
    assert len(column(admin, "created_at")) > 250
    [(owner,)] = admin.execute("SELECT id FROM users WHERE email = %s", bulk.EMAIL.format(1))
    page = await task_lists.page(empty, owner, 500)
    assert len(page) == 150
    assert await tasks.patch(empty, owner, page[0]["id"], {"title": "Changed"})


async def test_several_at_once_make_as_much_as_one(
    empty: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 4)
    added = await asyncio.gather(*(fill(empty, 2, 10) for _ in range(4)))
    assert sorted(sum(each) for each in added) == [0, 0, 0, 10]
    assert counts(admin) == {"load-1@example.com": 5, "load-2@example.com": 5}
