"""The key of tasks is the owner and the id (D38), and the two revisions that lead to it are safe to deploy."""

from uuid import UUID, uuid4

import pytest

from persistence import migrator, task_lists, tasks
from persistence.history import MigrationError
from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import TASK, Admin
from tests.database.test_migrations import schema_of
from tests.support.databases import as_owner


async def test_two_owners_may_have_a_task_with_the_same_id_and_neither_can_tell(
    database: Database, alice: UUID, bob: UUID
) -> None:
    task_id = uuid4()
    assert await tasks.create(database, bob, TASK | {"title": "Bob's"}, task_id)
    bobs = await tasks.get(database, bob, task_id)
    for write in (tasks.replace, tasks.patch):
        assert await write(database, alice, task_id, TASK) is None
    assert await tasks.patch(database, alice, task_id, {}) is None
    assert await tasks.remove(database, alice, task_id) is None
    mine = await tasks.create(database, alice, TASK | {"title": "Mine"}, task_id)
    assert mine
    assert (mine["user_id"], mine["title"], mine["replayed"]) == (alice, "Mine", False)
    assert await tasks.create(database, alice, TASK | {"title": "Again"}, task_id) == mine | {"replayed": True}
    changed = await tasks.patch(database, alice, task_id, {"title": "Changed"}, {mine["version"]})
    assert changed
    assert [task["title"] for task in await task_lists.page(database, alice, 100)] == ["Changed"]
    assert (await task_lists.summary(database, alice))["total"] == 1
    removed = await tasks.remove(database, alice, task_id)
    assert removed
    assert (removed["user_id"], removed["title"]) == (alice, "Changed")
    assert await tasks.get(database, alice, task_id) is None
    assert await tasks.get(database, bob, task_id) == bobs


def test_code_from_before_revision_0005_goes_on_working_until_0006(empty_dsn: Dsn, admin: Admin) -> None:
    insert = (
        "INSERT INTO tasks (id, user_id, title) SELECT id, id, 'x' FROM users"
        " ON CONFLICT (id) DO UPDATE SET id = excluded.id RETURNING xmax <> 0"
    )
    migrator.migrate(empty_dsn, "0005")
    admin.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'alice@example.com')")
    assert [admin.value(insert) for _ in range(2)] == [False, True]
    migrator.migrate(empty_dsn, "0006")
    with pytest.raises(Exception, match="no unique or exclusion constraint matching"):
        admin.execute(insert)


def test_revision_0005_replaces_the_invalid_index_of_an_attempt_that_failed(empty_dsn: Dsn, admin: Admin) -> None:
    migrator.migrate(empty_dsn, "0005")
    whole = schema_of(empty_dsn)
    migrator.migrate(empty_dsn, "0004")
    admin.execute("CREATE UNIQUE INDEX uq_tasks_user_id_id ON tasks (title)")
    admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq_tasks_user_id_id'::regclass")
    migrator.migrate(empty_dsn, "0005")
    assert schema_of(empty_dsn) == whole


@pytest.mark.plain("goes back to before revision 0010")
def test_the_way_back_of_revision_0006_fails_whole_while_two_tasks_have_the_same_id(
    migrated_dsn: Dsn, admin: Admin
) -> None:
    dsn = as_owner(migrated_dsn)
    migrator.migrate(dsn, "0006")
    admin.execute("INSERT INTO users (id, email) SELECT gen_random_uuid(), n || '@x' FROM generate_series(1, 2) AS n")
    admin.execute("INSERT INTO tasks (id, user_id, title) SELECT %s, id, 'x' FROM users", uuid4())
    before = schema_of(dsn)
    with pytest.raises(MigrationError, match=r'^Revision 0006 .* failed: could not create unique index "pk_tasks"'):
        migrator.migrate(dsn, "0005")
    assert schema_of(dsn) == before
    admin.execute("DELETE FROM users WHERE email = '1@x'")
    migrator.migrate(dsn, "0005")
    assert admin.value("SELECT count(*) FROM tasks") == 1
