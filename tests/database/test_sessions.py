"""A session for more than one statement: committed on success, rolled back on error, always checked in again (D19)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.models import Task, User
from persistence.postgres.connection import Connection
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import ConstraintViolated, ForeignKeyViolated, Unavailable
from tests.database.helpers import Admin, eventually, options, pid_of, value_of


@pytest.fixture
async def database(dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(dsn, options(most=5)) as database:
        yield database


class ChangedMyMind(Exception):
    """An error of the caller in the middle of a session."""


async def titles_of(database: Database, owner: UUID) -> list[str]:
    async with database.session() as session:
        mine = col(Task.user_id) == owner
        return list((await session.exec(select(Task.title).where(mine).order_by(Task.title))).all())


async def execute(session: AsyncSession, query: str) -> object:
    return (await (await session.connection()).execute(text(query))).scalar()


async def driver_connection(session: AsyncSession) -> Connection:
    connection = (await (await session.connection()).get_raw_connection()).driver_connection
    assert isinstance(connection, Connection)
    return connection


async def write(database: Database, *tasks: Task, then: BaseException | None = None) -> None:
    async with database.session() as session:
        session.add_all(tasks)
        if then:
            await session.flush()
            # Another session does not see what is not committed.
            assert await titles_of(database, tasks[0].user_id) == []
            raise then


async def test_a_session_commits_on_success_and_its_objects_stay_readable(database: Database, alice: UUID) -> None:
    task = Task(user_id=alice, title="one")
    await write(database, task, Task(user_id=alice, title="two"))
    assert (task.title, task.priority, task.tags) == ("one", "medium", [])
    assert await titles_of(database, alice) == ["one", "two"]


@pytest.mark.parametrize("error", [ChangedMyMind, asyncio.CancelledError])
async def test_a_session_rolls_everything_back_on_an_error_and_checks_its_connection_in(
    database: Database, alice: UUID, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        await write(database, Task(user_id=alice, title="one"), then=error())
    assert database.pool.stats.in_use == 0
    assert await titles_of(database, alice) == []


async def test_a_session_rolls_back_when_the_commit_itself_is_refused(database: Database, alice: UUID) -> None:
    with pytest.raises(ConstraintViolated, match="ck_tasks_title_length"):
        await write(database, Task(user_id=alice, title="fine"), Task(user_id=alice, title=""))
    with pytest.raises(ForeignKeyViolated):
        await write(database, Task(user_id=uuid4(), title="Of no user"))
    assert database.pool.stats.in_use == 0
    assert await titles_of(database, alice) == []


async def test_a_session_takes_a_connection_with_its_first_statement(database: Database) -> None:
    async with database.session() as session:
        assert database.pool.stats.in_use == 0
        await session.exec(select(User.id))
        assert database.pool.stats.in_use == 1
    assert database.pool.stats.in_use == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_a_connection_commits_single_statements_again_after_a_session(dsn: Dsn, alice: UUID, fails: bool) -> None:
    async with open_database(dsn, options(most=1)) as database:
        pid = await pid_of(database)
        with contextlib.suppress(ChangedMyMind):
            async with database.session() as session:
                await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                assert await execute(session, "SHOW transaction_isolation") == "serializable"
                if fails:
                    raise ChangedMyMind
        insert = "INSERT INTO tasks (id, user_id, title) VALUES (:id, :id, 'new') RETURNING id AS value"
        await value_of(database, insert, id=alice)
        with psycopg.connect(dsn.conninfo) as other:
            assert other.execute("SELECT title FROM tasks WHERE id = %s", [alice]).fetchone() == ("new",)
        assert await pid_of(database) == pid
        async with database.session() as session:
            # The next session does not inherit what the one before it asked for.
            assert await execute(session, "SHOW transaction_isolation") == "read committed"


async def test_a_bare_connection_is_one_transaction(database: Database, alice: UUID) -> None:
    async def insert(title: str, *, fails: bool) -> None:
        async with database.connection() as connection:
            query = "INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), %s, %s)"
            await connection.execute(query, [alice, title])
            if fails:
                raise ChangedMyMind

    with pytest.raises(ChangedMyMind):
        await insert("lost", fails=True)
    with pytest.raises(ConstraintViolated, match="ck_tasks_title_length"):
        await insert("", fails=False)
    await insert("one", fails=False)

    assert await titles_of(database, alice) == ["one"]


async def test_a_session_is_cut_off_at_its_deadline_but_not_afterwards(dsn: Dsn) -> None:
    timeout, ended = 0.1, False
    while not ended:
        timeout *= 2
        async with open_database(dsn, options(most=1, statement_timeout=timeout)) as database:
            with pytest.raises(Unavailable):
                async with database.session() as session:
                    await execute(session, "SELECT pg_sleep(3600)")
            assert database.pool.stats.in_use == 0
            with contextlib.suppress(Unavailable):
                async with database.session() as session:
                    connection = await driver_connection(session)
                ended = True
                await asyncio.sleep(2 * timeout)
                assert not connection.invalidated


@pytest.mark.parametrize("how", ["ended by the server", "cut"])
async def test_a_session_that_loses_its_connection_checks_it_in_all_the_same(
    empty_dsn: Dsn, admin: Admin, how: str
) -> None:
    async with open_database(empty_dsn, options()) as database:

        async def lose() -> None:
            async with database.session() as session:
                connection = await driver_connection(session)
                if how == "cut":
                    connection.abort()
                else:
                    admin.terminate(connection.info.backend_pid)
                await execute(session, "SELECT 1")

        for _ in range(4):
            with pytest.raises(Unavailable):
                await lose()
            assert database.pool.stats.in_use == 0
        assert await pid_of(database)
        await eventually(lambda: len(admin.pids()) == database.pool.stats.size)
