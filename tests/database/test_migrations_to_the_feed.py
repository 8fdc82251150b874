"""Revisions 0013 to 0016 lead to the revisions of users and to the trash, and disturb no server (D39, D40, D41)."""

import asyncio
from uuid import UUID, uuid4

import pytest

from persistence import changes, history, migrator, purge, task_lists, tasks, trash, users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import TASK, Admin, eventually, options
from tests.database.test_migrations import schema_of

STEPS = [revision for revision in history.revisions() if "0013" <= revision <= "0016"]
TASKS = "SELECT id, user_id, title, tags, version, created_at, updated_at FROM tasks ORDER BY id"
USERS = "SELECT id, email, created_at, updated_at FROM users ORDER BY id"


def insert(admin: Admin, number: int = 1) -> UUID:
    """A user with tasks, as code from before has made them."""
    user = uuid4()
    admin.execute("INSERT INTO users (id) VALUES (%s)", user)
    for _ in range(number):
        admin.execute("INSERT INTO tasks (id, user_id, title, tags) VALUES (%s, %s, 'x', '{a}')", uuid4(), user)
    return user


async def changed(database: Database, user: UUID, after: changes.Place = changes.BEGINNING) -> changes.Place:
    *_, place, _ = await changes.page(database, user, 100, after)
    return place


@pytest.mark.parametrize("revision", STEPS)
async def test_the_code_of_today_works_on_each(empty_dsn: Dsn, revision: str) -> None:
    migrator.migrate(empty_dsn, revision)
    async with open_database(empty_dsn, options()) as database:
        user = uuid4()
        kept, erased = [await tasks.create(database, user, TASK, makes_owner=True) for _ in range(2)]
        assert kept
        assert erased
        assert await tasks.patch(database, user, kept["id"], {"title": "Changed"}, key="key")
        for task in (kept, erased):
            assert await tasks.remove(database, user, task["id"])
        assert await task_lists.page(database, user, 10) == []
        assert len(await trash.page(database, user, 10)) == 2
        assert await tasks.restore(database, user, kept["id"])
        assert await trash.erase(database, user, erased["id"])
        assert (await users.account(database, user)).total == 1
        assert [task["title"] for task in await task_lists.page(database, user, 10)] == ["Changed"]
        assert (await changed(database, user)).seen
        for kind in (purge.TRASH, purge.TOMBSTONES):
            assert [number async for number in purge.purge(database, kind, await purge.days_ago(database, 1))] == []
        assert await users.erase(database, user) == 1


def test_no_table_is_written_anew_and_what_was_there_stays_as_it_was(empty_dsn: Dsn, admin: Admin) -> None:
    migrator.migrate(empty_dsn, "0012")
    for number in (0, 1, 3):
        insert(admin, number)
    files = "SELECT pg_relation_filenode('tasks'), pg_relation_filenode('users')"
    before = [admin.execute(query) for query in (TASKS, USERS, files)]

    migrator.migrate(empty_dsn)

    assert [admin.execute(query) for query in (TASKS, USERS, files)] == before


async def test_the_last_one_ends_each_cursor_from_before_it_also_one_that_an_older_server_has_passed(
    empty_dsn: Dsn, admin: Admin
) -> None:
    migrator.migrate(empty_dsn, "0015")
    user, idle = insert(admin, 2), insert(admin)
    async with open_database(empty_dsn, options()) as database:
        places = {owner: await changed(database, owner) for owner in (user, idle)}
        # Code from before deletes for good, and counts.
        admin.execute("DELETE FROM tasks WHERE id = (SELECT id FROM tasks WHERE user_id = %s LIMIT 1)", user)
        admin.execute("UPDATE tasks SET version = version + 1 WHERE user_id = %s", user)

        await asyncio.to_thread(migrator.migrate, empty_dsn)

        for owner, place in places.items():
            with pytest.raises(changes.Gone):
                await changed(database, owner, place)
            again = await changed(database, owner)
            assert await changed(database, owner, again) == again
    assert admin.value(
        "SELECT bool_and(horizon = revision AND revision > version) FROM users JOIN tasks ON user_id = users.id"
    )


async def test_the_last_one_waits_for_one_user_while_others_write(empty_dsn: Dsn, admin: Admin) -> None:
    migrator.migrate(empty_dsn, "0015")
    first, busy, last = [insert(admin) for _ in range(3)]
    admin.execute("BEGIN")
    admin.execute("UPDATE users SET revision = revision WHERE id = %s", busy)
    migration = asyncio.create_task(asyncio.to_thread(migrator.migrate, empty_dsn))
    async with open_database(empty_dsn, options()) as database:
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"
        await eventually(lambda: admin.value(waits) > 0)
        for owner in (first, last):
            assert await tasks.create(database, owner, TASK)
        assert not migration.done()
        admin.execute("COMMIT")
        await migration
    assert migrator.current(empty_dsn) == STEPS[-1]


@pytest.mark.parametrize(("revision", "index"), [("0014", "ix_tasks_newest"), ("0014", "ix_tasks_trash"), ("0016", "")])
def test_an_attempt_that_failed_half_way_can_be_repeated(
    empty_dsn: Dsn, admin: Admin, revision: str, index: str
) -> None:
    before = f"{int(revision) - 1:04}"
    migrator.migrate(empty_dsn, revision)
    whole = schema_of(empty_dsn)
    migrator.migrate(empty_dsn, before)
    if index:
        # The old indexes have other names already, and the build of this one was interrupted.
        for name in ("newest", "status", "priority", "due_date", "tags"):
            admin.execute(f"ALTER INDEX ix_tasks_{name} RENAME TO ix_tasks_{name}_all")
        admin.execute(f"CREATE INDEX {index} ON tasks (title)")
        admin.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass")
    else:
        admin.execute("DROP INDEX ix_tasks_newest_all")
    migrator.migrate(empty_dsn, revision)
    assert schema_of(empty_dsn) == whole


async def test_the_way_back_keeps_all_live_tasks_and_forgets_what_was_deleted(empty_dsn: Dsn, admin: Admin) -> None:
    migrator.migrate(empty_dsn)
    async with open_database(empty_dsn, options()) as database:
        user = await users.create(database, "alice@example.com")
        assert user
        live, trashed, erased = [await tasks.create(database, user, TASK) for _ in range(3)]
        assert live
        assert trashed
        assert erased
        for task in (trashed, erased):
            await tasks.remove(database, user, task["id"])
        await trash.erase(database, user, erased["id"])
        place = await changed(database, user)

    for target in ("0012", "head"):
        await asyncio.to_thread(migrator.migrate, empty_dsn, target)
        assert admin.execute("SELECT id, version, title FROM tasks") == [(live["id"], live["version"], live["title"])]
    async with open_database(empty_dsn, options()) as database:
        with pytest.raises(changes.Gone):
            await changed(database, user, place)
