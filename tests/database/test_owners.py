"""The row of a user that signs in elsewhere: its first write makes it, however many come at once (D35)."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from persistence import task_lists, tasks, users
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded
from tests.database.helpers import TASK, Admin, eventually, options
from tests.support.nodes import is_one_moment

CLIENTS, ROUNDS = 12, 30


@pytest.fixture
async def many(migrated_dsn: Dsn) -> AsyncIterator[Database]:
    """A database of the test's own, with a connection for each client."""
    async with open_database(migrated_dsn, options(least=CLIENTS, most=CLIENTS)) as database:
        await eventually(lambda: database.pool.stats.idle == CLIENTS)
        yield database


async def write(database: Database, user: UUID, task: UUID | None = None) -> tasks.TaskRow:
    made = await tasks.create(database, user, TASK, task, makes_owner=True)
    assert made
    return made


async def test_a_user_that_was_never_seen_has_no_row_and_no_tasks(database: Database) -> None:
    user = uuid4()
    assert await users.account(database, user) == users.Account(None, False, 0, 0, 0)
    assert await tasks.create(database, user, TASK) is None
    assert (await users.account(database, user)).created_at is None


async def test_the_first_write_makes_the_user_without_an_address_and_later_ones_leave_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    user = uuid4()
    first = await write(database, user)
    account = await users.account(database, user)
    await write(database, user)
    completed = await tasks.create(database, user, TASK | {"status": "completed"})

    assert (first["user_id"], first["replayed"]) == (user, False)
    assert account == users.Account(account.created_at, False, 1, 1, 0)
    assert account.created_at
    assert is_one_moment(account.created_at, first["created_at"])
    assert completed
    assert await users.account(database, user) == users.Account(account.created_at, False, 3, 2, 1)


async def test_a_repeat_of_the_first_write_is_told_as_one(database: Database) -> None:
    user, task = uuid4(), uuid4()
    first = await write(database, user, task)
    assert await write(database, user, task) == first | {"replayed": True}


async def test_many_first_writes_at_once_make_one_user_and_lose_no_task(many: Database, admin: Admin) -> None:
    await check_first_writes(many, admin, ROUNDS)


async def test_first_writes_at_once_may_meet_another_index_than_the_key_first(many: Database, admin: Admin) -> None:
    # PostgreSQL comes to the indexes of a table in the order of their making: here the key is the last.
    admin.execute(
        "CREATE FUNCTION slow(id uuid) RETURNS uuid LANGUAGE plpgsql IMMUTABLE"
        " AS 'BEGIN PERFORM pg_sleep(0.05); RETURN id; END'"
    )
    admin.execute("CREATE INDEX ix_slow ON users (slow(id))")
    admin.execute("REINDEX INDEX CONCURRENTLY pk_users")
    await check_first_writes(many, admin, 3)


async def check_first_writes(many: Database, admin: Admin, rounds: int) -> None:
    for _ in range(rounds):
        user = uuid4()
        made = await asyncio.gather(*(write(many, user) for _ in range(CLIENTS)))
        stored = await task_lists.page(many, user, 100)
        assert sorted(task["id"] for task in stored) == sorted(task["id"] for task in made)
        assert {task["replayed"] for task in made} == {False}
    assert admin.value("SELECT count(*) FROM users") == rounds
    assert admin.value("SELECT count(*) FROM users WHERE email IS NULL AND NOT is_erased AND is_active") == rounds


async def test_a_first_write_that_is_repeated_at_once_makes_one_task(many: Database) -> None:
    for _ in range(ROUNDS):
        user, task = uuid4(), uuid4()
        made = await asyncio.gather(*(write(many, user, task) for _ in range(CLIENTS)))
        assert [row["replayed"] for row in made].count(False) == 1
        assert (await users.account(many, user)).total == 1


async def test_both_statements_of_a_first_write_share_one_time_limit(migrated_dsn: Dsn, admin: Admin) -> None:
    user = uuid4()
    async with open_database(migrated_dsn, options(statement_timeout=1.0)) as database:
        admin.execute("BEGIN")
        admin.execute("INSERT INTO users (id) VALUES (%s)", user)
        # The second one waits for the row, and its transaction neither commits nor rolls back.
        with pytest.raises(DeadlineExceeded):
            await write(database, user)
        admin.execute("ROLLBACK")
        await write(database, user)
