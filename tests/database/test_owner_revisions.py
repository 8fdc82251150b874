"""Revisions 0009 to 0012 lead to users without an address and to marks, and disturb no server (D35, D36)."""

import asyncio
from uuid import UUID, uuid4

import pytest

from persistence import history, migrator, task_lists, tasks, users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import TASK, Admin, options
from tests.database.test_migrations import schema_of
from tests.support.databases import as_owner, migrate_and_grant

STEPS = ["0008", *(revision for revision in history.revisions() if "0008" < revision <= "0012")]
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


@pytest.mark.parametrize("revision", STEPS)
async def test_code_from_before_goes_on_working_as_no_statement_of_its_own_names_what_is_new(
    empty_dsn: Dsn, revision: str
) -> None:
    of_one = (tasks.CREATE, tasks.GET, tasks.REPLACE, tasks.PATCH, tasks.DELETE)
    for statement in (*of_one, task_lists.SUMMARY, users.CREATE):
        assert "is_erased" not in statement.text
    migrator.migrate(empty_dsn, revision)
    async with open_database(empty_dsn, options()) as database:
        user = await users.create(database, "alice@example.com")
        assert user
        made = await tasks.create(database, user, TASK)
        assert made
        assert await tasks.create(database, user, TASK, made["id"]) == made | {"replayed": True}
        assert await tasks.create(database, uuid4(), TASK) is None
        assert await tasks.patch(database, user, made["id"], {"title": "Changed"})
        assert len(await task_lists.page(database, user, 10)) == 1
        assert await tasks.remove(database, user, made["id"])


async def create_until(database: Database, user: UUID, stop: asyncio.Event) -> int:
    number = 0
    while not stop.is_set():
        assert await tasks.create(database, user, TASK)
        number += 1
    return number


async def test_no_create_fails_while_a_server_is_migrated_there_and_back(empty_dsn: Dsn, admin: Admin) -> None:
    migrator.migrate(empty_dsn, "0008")
    stop = asyncio.Event()
    async with open_database(empty_dsn, options(least=4, most=4)) as database:
        user = await users.create(database, "alice@example.com")
        assert user
        clients = [asyncio.create_task(create_until(database, user, stop)) for _ in range(4)]
        for target in ("head", "0008", "head"):
            await asyncio.to_thread(migrator.migrate, empty_dsn, target)
        stop.set()
        made = sum(await asyncio.gather(*clients))
    assert admin.value("SELECT count(*) FROM tasks") == made > 0


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
