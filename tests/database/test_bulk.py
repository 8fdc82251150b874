"""Data by the million: as much as asked for, spread evenly, valid, and never twice."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from persistence import migrator, task_lists, tasks, users
from persistence.development import bulk
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn


@pytest.fixture
async def empty(empty_dsn: Dsn) -> AsyncIterator[Database]:
    """A migrated database with nobody in it."""
    migrator.migrate(empty_dsn)
    async with open_database(empty_dsn) as database:
        yield database


async def fill(database: Database, users: int, tasks: int) -> list[int]:
    return [added async for added in bulk.fill(database, users, tasks)]


def counts(dsn: Dsn) -> dict[str, int]:
    with psycopg.connect(dsn.conninfo) as connection:
        return dict(
            connection.execute(
                "SELECT email, count(tasks.id) FROM users LEFT JOIN tasks ON user_id = users.id GROUP BY email"
            ).fetchall()
        )


def column(dsn: Dsn, expression: str) -> set[object]:
    with psycopg.connect(dsn.conninfo) as connection:
        return {value for (value,) in connection.execute(f"SELECT {expression} FROM tasks".encode())}


async def test_it_spreads_the_tasks_evenly_over_the_users(empty: Database, empty_dsn: Dsn) -> None:
    assert sum(await fill(empty, 3, 8)) == 8

    assert counts(empty_dsn) == {"load-1@example.com": 3, "load-2@example.com": 3, "load-3@example.com": 2}


async def test_it_says_what_each_batch_added(empty: Database, empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 4)

    assert await fill(empty, 2, 10) == [4, 4, 2]
    assert await fill(empty, 2, 18) == [4, 4]
    assert counts(empty_dsn) == {"load-1@example.com": 9, "load-2@example.com": 9}


async def test_it_makes_up_only_what_is_missing(empty: Database, empty_dsn: Dsn) -> None:
    await fill(empty, 2, 10)
    assert await fill(empty, 2, 10) == []
    with psycopg.connect(empty_dsn.conninfo) as connection:
        connection.execute("DELETE FROM tasks WHERE title = 'Task 1 of 5'")

    assert await fill(empty, 2, 10) == [2]
    # Of the share of 3, 3, 2, 2 the first two users have theirs already.
    assert await fill(empty, 4, 10) == [4]
    assert counts(empty_dsn)["load-4@example.com"] == 2


async def test_it_takes_no_task_away(empty: Database, empty_dsn: Dsn) -> None:
    await fill(empty, 2, 10)

    assert await fill(empty, 2, 4) == []
    assert counts(empty_dsn) == {"load-1@example.com": 5, "load-2@example.com": 5}


async def test_it_makes_users_without_tasks(empty: Database, empty_dsn: Dsn) -> None:
    assert await fill(empty, 2, 0) == []

    assert counts(empty_dsn) == {"load-1@example.com": 0, "load-2@example.com": 0}


async def test_it_stays_out_of_the_way_of_other_users(empty: Database, empty_dsn: Dsn) -> None:
    await users.create(empty, "alice@example.com", "Alice")

    await fill(empty, 1, 3)

    assert counts(empty_dsn) == {"alice@example.com": 0, "load-1@example.com": 3}


async def test_what_was_added_before_it_is_stopped_stays_whole(
    empty: Database, empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 4)
    filling = bulk.fill(empty, 1, 20)
    await anext(filling)
    await anext(filling)
    await filling.aclose()  # type: ignore[attr-defined] # an async generator has it

    assert counts(empty_dsn) == {"load-1@example.com": 8}
    assert empty.pool.stats.in_use == 0
    assert sum(await fill(empty, 1, 20)) == 12


async def test_the_tasks_are_of_every_kind(empty: Database, empty_dsn: Dsn) -> None:
    await fill(empty, 2, 300)

    assert column(empty_dsn, "status::text") == {"pending", "completed"}
    assert column(empty_dsn, "priority::text") == {"low", "medium", "high"}
    assert column(empty_dsn, "due_date IS NULL") == {True, False}
    assert column(empty_dsn, "description IS NULL") == {True, False}
    assert column(empty_dsn, "cardinality(tags)") == {0, 1, 2, 3}
    assert column(empty_dsn, "created_at <= now()") == {True}
    assert len(column(empty_dsn, "created_at")) > 250


async def test_a_task_that_it_made_reads_like_any_other(empty: Database) -> None:
    await fill(empty, 1, 5)
    owner = await users.find(empty, bulk.EMAIL.format(1))
    assert owner

    page = await task_lists.page(empty, owner, 100)

    assert len(page) == 5
    assert await tasks.patch(empty, owner, page[0]["id"], {"title": "Changed"})
