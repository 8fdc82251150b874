"""Revisions 0009 to 0012 lead to users without an address and to marks, and disturb no server (D35, D36)."""

from uuid import uuid4

import pytest

from persistence import migrator, tasks, users
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import TASK, Admin, options
from tests.database.test_migrations import schema_of
from tests.support.databases import as_owner, migrate_and_grant

USERS = "SELECT id, email, password_hash, name, is_active, email_verified, created_at FROM users ORDER BY id"
TASKS = "SELECT id, user_id, title, version, created_at, updated_at FROM tasks ORDER BY id"


async def test_users_and_tasks_of_before_stay_as_they_were_also_those_of_inactive_users(
    empty_dsn: Dsn, admin: Admin
) -> None:
    migrator.migrate(empty_dsn, "0008")
    for is_active in (True, False):
        user = uuid4()
        admin.execute("INSERT INTO users (id, email, name, is_active) VALUES (%s, %s, 'Alice', %s)",
                      user, f"{user}@example.com", is_active)  # fmt: skip
        admin.execute("INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'x')", uuid4(), user)
    before = admin.execute(USERS), admin.execute(TASKS)

    migrator.migrate(empty_dsn)

    assert (admin.execute(USERS), admin.execute(TASKS)) == before
    async with open_database(empty_dsn, options()) as database:
        for owner, *_ in before[0]:
            assert await tasks.create(database, owner, TASK)
            assert (await users.account(database, owner)).total == 2
    migrator.migrate(empty_dsn, "0008")
    assert admin.execute(USERS) == before[0]


@pytest.mark.plain("goes back to before revision 0010")
async def test_the_way_back_keeps_all_tasks_gives_addresses_that_lead_nowhere_and_forgets_the_marks(
    migrated_dsn: Dsn, admin: Admin
) -> None:
    user, erased = uuid4(), uuid4()
    async with open_database(migrated_dsn, options()) as database:
        await tasks.create(database, user, TASK, makes_owner=True)
        await users.erase(database, erased)

    migrator.migrate(as_owner(migrated_dsn), "0008")

    assert admin.execute("SELECT id, email FROM users") == [(user, f"{user}@no-email.invalid")]
    assert admin.value("SELECT user_id FROM tasks") == user
    migrate_and_grant(migrated_dsn)
    async with open_database(migrated_dsn, options()) as database:
        assert (await users.account(database, user)).total == 1


def test_revision_0010_replaces_the_invalid_index_of_an_attempt_that_failed(empty_dsn: Dsn, admin: Admin) -> None:
    migrator.migrate(empty_dsn, "0010")
    whole = schema_of(empty_dsn)
    migrator.migrate(empty_dsn, "0009")
    admin.execute("CREATE UNIQUE INDEX uq_users_id_is_erased ON users (name)")
    admin.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq_users_id_is_erased'::regclass")
    migrator.migrate(empty_dsn, "0010")
    assert schema_of(empty_dsn) == whole
