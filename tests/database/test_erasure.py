"""An erased account: nothing of it is left but the mark, and no race brings anything back (D36)."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import ANY
from uuid import UUID, uuid4

import pytest

from persistence import task_lists, tasks, users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import TASK, Admin, eventually, options
from tests.support.databases import as_owner

CLIENTS, ROUNDS = 12, 30
DATA = "email, name, password_hash, is_active, email_verified, is_erased"
ERASED = (None, None, "!", False, False, True)


@pytest.fixture
async def many(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    """A database of the test's own, with a connection for each client and one for the test."""
    async with open_database(migrated_dsn, options(least=CLIENTS + 1, most=CLIENTS + 1)) as database:
        await eventually(lambda: database.pool.stats.idle == CLIENTS + 1)
        yield database


@pytest.fixture
async def single(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(migrated_dsn, options()) as database:
        yield database


@pytest.fixture
async def operators(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    """The same as commands for users have it, by their owner."""
    async with open_database(as_owner(migrated_dsn), options()) as database:
        yield database


async def test_it_deletes_the_tasks_and_what_is_known_of_the_user_and_of_nobody_else(
    single: Database, operators: Database, admin: Admin
) -> None:
    alice = await users.create(operators, "alice@example.com", "Alice", "hash")
    bob = await users.create(operators, "bob@example.com", "Bob", "hash")
    assert alice
    assert bob
    for owner in (alice, alice, bob):
        await tasks.create(single, owner, TASK)
    before = admin.execute(f"SELECT {DATA}, created_at FROM users WHERE id = %s", bob)

    assert await users.erase(single, alice) == 2

    assert admin.execute(f"SELECT {DATA} FROM users WHERE id = %s", alice) == [ERASED]
    assert admin.execute("SELECT user_id FROM tasks") == [(bob,)]
    assert admin.execute(f"SELECT {DATA}, created_at FROM users WHERE id = %s", bob) == before
    # The address is free again.
    assert await users.create(operators, "alice@example.com")


@pytest.mark.parametrize("has_a_row", [True, False])
async def test_an_erased_account_can_make_nothing_and_the_mark_stays_as_it_is(
    database: Database, has_a_row: bool
) -> None:
    user = uuid4()
    if has_a_row:
        await tasks.create(database, user, TASK, makes_owner=True)
    await users.erase(database, user)
    erased = await users.account(database, user)

    assert await tasks.create(database, user, TASK) is None
    with pytest.raises(tasks.OwnerErased):
        await tasks.create(database, user, TASK, makes_owner=True)
    assert await users.erase(database, user) == 0
    assert await users.account(database, user) == erased
    assert erased.created_at
    assert erased == users.Account(erased.created_at, True, 0, 0, 0)
    assert await task_lists.page(database, user, 100) == []


async def hammer(database: Database, user: UUID) -> None:
    """Creates tasks until the account is erased."""
    while True:
        await tasks.create(database, user, TASK, makes_owner=True)


@pytest.mark.parametrize("has_a_row", [True, False])
async def test_no_write_at_the_same_time_survives_or_brings_anything_back(
    many: Database, admin: Admin, has_a_row: bool
) -> None:
    for number in range(ROUNDS):
        user = uuid4()
        if has_a_row:
            await tasks.create(many, user, TASK, makes_owner=True)
        clients = [asyncio.create_task(hammer(many, user)) for _ in range(CLIENTS)]
        # Another moment of their writes in each round.
        await asyncio.sleep(number % 10 / 1000)
        await users.erase(many, user)
        assert admin.value("SELECT count(*) FROM tasks") == 0
        ends = await asyncio.gather(*clients, return_exceptions=True)
        assert {type(end) for end in ends} == {tasks.OwnerErased}
    assert admin.value("SELECT count(*) FROM tasks") == 0
    assert admin.value("SELECT count(*) FROM users WHERE is_erased") == ROUNDS


async def test_an_erasure_that_could_not_see_the_first_write_runs_again(single: Database, admin: Admin) -> None:
    user = uuid4()
    admin.execute("BEGIN")
    admin.execute("INSERT INTO users (id) VALUES (%s)", user)
    admin.execute("INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'x')", uuid4(), user)
    erasure = asyncio.create_task(users.erase(single, user))
    await admin.waiting()
    admin.execute("COMMIT")

    assert await erasure == 1
    assert await users.account(single, user) == users.Account(ANY, True, 0, 0, 0)


async def test_any_number_may_erase_the_same_account_at_once(many: Database, admin: Admin) -> None:
    for number in range(ROUNDS):
        user = uuid4()
        if number % 2:
            await tasks.create(many, user, TASK, makes_owner=True)
        await asyncio.gather(*(users.erase(many, user) for _ in range(CLIENTS)))
        assert (await users.account(many, user)).is_erased
    assert admin.value("SELECT count(*) FROM tasks") == 0


async def test_the_database_refuses_data_of_an_erased_account(single: Database, admin: Admin) -> None:
    await users.erase(single, uuid4())
    for change in ("email = 'a@b'", "name = 'Alice'"):
        with pytest.raises(Exception, match="ck_users_erased_has_no_data"):
            admin.execute(f"UPDATE users SET {change}")


async def test_a_user_with_tasks_cannot_be_marked_and_no_task_can_be_tied_to_a_mark(
    single: Database, admin: Admin
) -> None:
    user = uuid4()
    await tasks.create(single, user, TASK, makes_owner=True)
    with pytest.raises(Exception, match="fk_tasks_user_id_owner_is_erased_users"):
        admin.execute("UPDATE users SET is_erased = true, is_active = false")
    with pytest.raises(Exception, match="ck_tasks_owner_not_erased"):
        admin.execute("UPDATE tasks SET owner_is_erased = true")


async def test_a_purge_removes_old_marks_and_nothing_else_and_then_the_user_may_come_again(
    single: Database, admin: Admin
) -> None:
    old, new, user = uuid4(), uuid4(), uuid4()
    await tasks.create(single, user, TASK, makes_owner=True)
    for each in (old, new):
        await users.erase(single, each)
    admin.execute("UPDATE users SET updated_at = now() - interval '3601 s' WHERE id IN (%s, %s)", old, user)

    assert await users.purge(single, 3600) == 1

    assert not (await users.account(single, old)).is_erased
    assert (await users.account(single, new)).is_erased
    assert (await users.account(single, user)).total == 1
    assert await tasks.create(single, old, TASK, makes_owner=True)
    assert await users.purge(single, 3600) == 0


async def test_users_are_listed_from_the_oldest_with_their_tasks(operators: Database) -> None:
    made = [await users.create(operators, f"{number}@example.com") for number in range(3)]
    assert made[1]
    for _ in range(2):
        await tasks.create(operators, made[1], TASK)
    await users.erase(operators, erased := uuid4())

    listed = [(user.id, user.email, user.tasks) async for user in users.listed(operators)]
    marks = [(user.id, user.email, user.tasks) async for user in users.listed(operators, erased=True)]

    assert listed == [(user, f"{number}@example.com", 2 * (number == 1)) for number, user in enumerate(made)]
    assert marks == [(erased, None, 0)]
    assert await users.find(operators, "1@Example.com") == made[1]
    assert await users.find(operators, "nobody@example.com") is None
