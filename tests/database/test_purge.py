"""The purge of old trash and old tombstones: it loses nothing that somebody wants back, and tells the feed (D41)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from persistence import changes, purge, tasks, trash, users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import TASK, Admin, eventually, new_user, options

CLIENTS = 6
DATA = "title, description, status::text, priority::text, due_date, tags, completed_at, applied_keys"
BLANK: tuple[object, ...] = ("(erased)", None, "pending", "medium", None, [], None, None)


@pytest.fixture
async def single(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    """A database of the test's own."""
    async with open_database(migrated_dsn, options()) as database:
        yield database


@pytest.fixture
async def many(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    """The same, with a connection for each client."""
    async with open_database(migrated_dsn, options(least=CLIENTS, most=CLIENTS)) as database:
        await eventually(lambda: database.pool.stats.idle == CLIENTS)
        yield database


async def delete(database: Database, admin: Admin, user: UUID, days: int, *, erased: bool = False) -> UUID:
    """A task that was deleted, and maybe erased, so many days ago."""
    values = {"title": "Secret", "description": "Secret", "status": "completed", "priority": "high", "tags": ["secret"]}
    task = await tasks.create(database, user, TASK | values)
    assert task
    await tasks.remove(database, user, task["id"], key="key")
    admin.execute("UPDATE tasks SET deleted_at = now() - make_interval(days => %s) WHERE id = %s", days, task["id"])
    if erased:
        await run(database, purge.TRASH, days - 1)
        admin.execute("UPDATE tasks SET updated_at = deleted_at WHERE id = %s", task["id"])
    return UUID(str(task["id"]))


async def run(database: Database, kind: purge.Kind, days: int) -> list[int]:
    before: datetime = await purge.days_ago(database, days)
    return [number async for number in purge.purge(database, kind, before)]


async def test_old_trash_becomes_tombstones_without_data_that_are_the_newest_change(
    single: Database, admin: Admin
) -> None:
    alice, bob = [await new_user(single) for _ in range(2)]
    old = [await delete(single, admin, user, 31) for user in (alice, alice, bob)]
    young = await delete(single, admin, alice, 29)
    live = await tasks.create(single, alice, TASK)
    assert live
    before = admin.execute("SELECT * FROM tasks WHERE id IN (%s, %s) ORDER BY id", young, live["id"])
    assert await purge.number(single, purge.TRASH, await purge.days_ago(single, 30)) == 3

    assert sorted(await run(single, purge.TRASH, 30)) == [1, 2]

    assert admin.execute(f"SELECT {DATA} FROM tasks WHERE is_erased") == [BLANK] * 3
    assert {task_id for (task_id,) in admin.execute("SELECT id FROM tasks WHERE is_erased")} == {*old}
    assert admin.execute("SELECT * FROM tasks WHERE id IN (%s, %s) ORDER BY id", young, live["id"]) == before
    newest = (
        "SELECT bool_and(version = revision AND version > %s"
        " AND tasks.updated_at = to_timestamp(version / 1e6::float8))"
        " FROM tasks JOIN users ON users.id = user_id WHERE tasks.is_erased"
    )
    assert admin.value(newest, live["version"])
    assert await run(single, purge.TRASH, 30) == []


async def test_old_tombstones_are_removed_and_the_horizon_of_their_owner_reaches_the_newest_of_them(
    single: Database, admin: Admin
) -> None:
    alice, bob, eve = [await new_user(single) for _ in range(3)]
    for days in (91, 95, 120):
        await delete(single, admin, alice, days, erased=True)
    # What counts is how long clients can have known it.
    young = await delete(single, admin, alice, 120, erased=True)
    admin.execute("UPDATE tasks SET updated_at = now() - interval '89 days' WHERE id = %s", young)
    await delete(single, admin, bob, 89, erased=True)
    await delete(single, admin, eve, 1000)
    versions = admin.value("SELECT array_agg(version ORDER BY version) FROM tasks WHERE user_id = %s", alice)
    horizons = dict(admin.execute("SELECT id, horizon FROM users"))
    revisions = dict(admin.execute("SELECT id, revision FROM users"))
    assert await purge.number(single, purge.TOMBSTONES, await purge.days_ago(single, 90)) == 3

    assert await run(single, purge.TOMBSTONES, 90) == [3]

    assert admin.execute("SELECT id FROM tasks WHERE user_id = %s", alice) == [(young,)]
    assert admin.value("SELECT count(*) FROM tasks") == 3
    assert dict(admin.execute("SELECT id, horizon FROM users")) == horizons | {alice: versions[2]}
    assert dict(admin.execute("SELECT id, revision FROM users")) == revisions
    assert await run(single, purge.TOMBSTONES, 90) == []


async def test_a_client_that_stopped_within_what_was_erased_at_once_starts_anew_and_one_that_read_all_goes_on(
    single: Database, admin: Admin
) -> None:
    user = await new_user(single)
    made = [await tasks.create(single, user, TASK) for _ in range(3)]
    _, whole, _ = await changes.page(single, user, 100, changes.BEGINNING)
    for task in made:
        assert task
        await tasks.remove(single, user, task["id"])
    await trash.erase_all(single, user)
    _, within, more = await changes.page(single, user, 1, whole)
    assert more
    _, end, _ = await changes.page(single, user, 100, within)
    admin.execute("UPDATE tasks SET deleted_at = now() - interval '100 days', updated_at = now() - interval '91 days'")
    assert await run(single, purge.TOMBSTONES, 90) == [3]

    assert (await changes.page(single, user, 100, end))[0] == []
    for place in (within, whole):
        with pytest.raises(changes.Gone):
            await changes.page(single, user, 100, place)


async def test_what_is_done_when_it_is_stopped_is_done_and_the_rest_comes_next_time(
    single: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "BATCH", 2)
    monkeypatch.setattr(purge, "OWNERS_PAGE", 2)
    # The first and the last of all ids are also some.
    owners = [UUID(int=0), *(uuid4() for _ in range(3)), UUID(int=(1 << 128) - 1)]
    for owner in owners:
        admin.execute("INSERT INTO users (id) VALUES (%s)", owner)
        for _ in range(3):
            await delete(single, admin, owner, 31)
    before = await purge.days_ago(single, 30)
    stopped = purge.purge(single, purge.TRASH, before)
    assert await anext(stopped) == 2
    await stopped.aclose()
    assert admin.value("SELECT count(*) FROM tasks WHERE is_erased") == 2

    assert sum(await run(single, purge.TRASH, 30)) == 13
    admin.execute("UPDATE tasks SET updated_at = deleted_at")
    assert await run(single, purge.TOMBSTONES, 30) == [2, 1] * 5
    assert admin.value("SELECT count(*) FROM tasks") == 0


async def test_it_leaves_a_task_alone_that_was_restored_while_it_waited(single: Database, admin: Admin) -> None:
    user = await new_user(single)
    await delete(single, admin, user, 31)
    admin.execute("BEGIN")
    admin.execute("UPDATE users SET revision = revision + 1")
    admin.execute("UPDATE tasks SET deleted_at = NULL, version = version + 1")
    running = asyncio.create_task(run(single, purge.TRASH, 30))
    await admin.waiting()
    admin.execute("COMMIT")

    assert await running == [0]
    assert admin.value("SELECT title FROM tasks WHERE deleted_at IS NULL") == "Secret"


@pytest.mark.parametrize("kind", [purge.TRASH, purge.TOMBSTONES], ids=["trash", "tombstones"])
async def test_it_ends_well_when_the_account_is_erased_meanwhile(
    single: Database, admin: Admin, kind: purge.Kind
) -> None:
    user = await new_user(single)
    await delete(single, admin, user, 100, erased=kind is purge.TOMBSTONES)
    admin.execute("BEGIN")
    admin.execute("DELETE FROM users")
    admin.execute("INSERT INTO users (id, is_active, is_erased) VALUES (%s, false, true)", user)
    mark = admin.execute("SELECT * FROM users")
    running = asyncio.create_task(run(single, kind, 90))
    await admin.waiting()
    admin.execute("COMMIT")

    assert await running == [0]
    assert admin.execute("SELECT * FROM users") == mark


async def write(database: Database, user: UUID, stop: asyncio.Event) -> None:
    """Creates, deletes and restores tasks."""
    while not stop.is_set():
        task = await tasks.create(database, user, TASK)
        assert task
        assert await tasks.remove(database, user, task["id"])
        assert await tasks.restore(database, user, task["id"])


async def test_any_number_purge_at_once_beside_writes_and_each_task_is_purged_once(
    many: Database, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "BATCH", 3)
    owners = [await new_user(many) for _ in range(2)]
    for owner in owners:
        for _ in range(10):
            await delete(many, admin, owner, 100)
    stop = asyncio.Event()
    writers = [asyncio.create_task(write(many, owner, stop)) for owner in owners]
    for kind in (purge.TRASH, purge.TOMBSTONES):
        done = await asyncio.gather(*(run(many, kind, 90) for _ in range(CLIENTS - len(writers))))
        admin.execute("UPDATE tasks SET updated_at = deleted_at WHERE is_erased")
        assert sum(sum(numbers) for numbers in done) == 20
    stop.set()
    await asyncio.gather(*writers)
    assert admin.value("SELECT count(*) FROM tasks WHERE is_erased") == 0
    # A version that was given twice would be skipped by a reader that has seen it once.
    assert admin.value(
        "SELECT bool_and(revision >= (SELECT max(version) FROM tasks WHERE user_id = users.id)) FROM users"
    )


async def test_an_account_that_is_erased_keeps_no_trash_and_no_cursor_of_before_is_good_again(
    single: Database, admin: Admin
) -> None:
    user = await new_user(single)
    await delete(single, admin, user, 1)
    await delete(single, admin, user, 100, erased=True)
    seen = admin.value("SELECT max(version) FROM tasks")

    await users.erase(single, user)
    assert admin.value("SELECT count(*) FROM tasks") == 0
    assert admin.value("SELECT least(revision, horizon) FROM users") > seen

    # The mark goes, and the user comes again.
    admin.execute("DELETE FROM users")
    admin.execute("INSERT INTO users (id) VALUES (%s)", user)
    assert admin.value("SELECT least(revision, horizon) FROM users") > seen
