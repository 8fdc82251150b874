"""What is tried again: reads, and writes that cannot have happened; and what is said when nobody knows."""

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from persistence import migrator, tasks, users
from persistence.postgres import database as database_module
from persistence.postgres import retries
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded, OutcomeUnknown, Unavailable
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.postgres.retries import Retries
from persistence.postgres.statement import Statement
from persistence.tasks import TaskValues
from tests.support.servers import PostgresServer, eventually

OPTIONS = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=3), statement_timeout=20)
TASK: TaskValues = {
    "title": "Buy milk", "description": None, "status": "pending", "priority": "low", "due_date": None, "tags": [],
}  # fmt: skip


class Value(TypedDict):
    value: int


READ_BEHIND_LOCK = Statement(text("SELECT 7 AS value FROM pg_advisory_lock_shared(7)").columns(), Value)
SLOW_READ = Statement(text("SELECT 7 AS value FROM pg_sleep(0.3)").columns(), Value)


class Admin:
    """Who looks at the server and does things to it, over a connection of his own to the same database."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def execute(self, query: str, *values: object) -> list[tuple[object, ...]]:
        cursor = self.connection.execute(sql.SQL(query), values)
        return cursor.fetchall() if cursor.description else []

    def alter(self, change: str) -> None:
        """`SET ...` or `RESET ...` for all connections to this database that are made from now on."""
        name = sql.Identifier(self.connection.info.dbname)
        self.connection.execute(sql.SQL("ALTER DATABASE {} " + change).format(name))

    async def waiting(self) -> int:
        """The process of the application that waits for a lock or sleeps, once there is one."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'todo' AND datname = current_database()"
            " AND (wait_event_type = 'Lock' OR wait_event = 'PgSleep')"
        )
        for _ in range(1000):
            if found := self.execute(query):
                return int(str(found[0][0]))
            await asyncio.sleep(0.01)
        raise AssertionError("nobody waits")

    def count(self, title: str) -> int:
        return int(str(self.execute("SELECT count(*) FROM tasks WHERE title = %s", title)[0][0]))


@pytest.fixture
def own(empty_dsn: Dsn) -> Iterator[tuple[Dsn, Admin]]:
    migrator.migrate(empty_dsn)
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as connection:
        yield empty_dsn, Admin(connection)


async def new_user(database: Database) -> UUID:
    user_id = await users.create(database, f"{uuid4()}@example.com")
    assert user_id
    return user_id


async def test_a_read_is_run_again_when_its_connection_is_ended(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    async with open_database(dsn, OPTIONS) as database:
        running = asyncio.create_task(database.row(SLOW_READ, {}))
        admin.execute("SELECT pg_terminate_backend(%s)", await admin.waiting())

        assert await running == {"value": 7}


async def test_a_write_that_was_not_finished_is_run_again_and_happens_once(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    async with open_database(dsn, OPTIONS) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as holder:
            holder.execute("LOCK TABLE tasks")
            running = asyncio.create_task(tasks.create(database, user_id, TASK))
            for _ in range(2):
                pid = await admin.waiting()
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", pid)
            await admin.waiting()
        created = await running

        assert created
        assert not created["replayed"]
        assert admin.count("Buy milk") == 1


async def test_a_write_that_was_finished_but_not_yet_committed_is_not_run_again(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    admin.execute("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(20); END'")
    # Deferred, so that it sleeps after the statement has been reported as done, in the commit.
    admin.execute(
        "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION dawdle()"
    )
    async with open_database(dsn, OPTIONS) as database:
        user_id = await new_user(database)
        running = asyncio.create_task(tasks.create(database, user_id, TASK))
        admin.execute("SELECT pg_terminate_backend(%s)", await admin.waiting())
        with pytest.raises(OutcomeUnknown):
            await running


async def test_of_a_write_whose_connection_is_cut_nobody_knows_and_a_read_is_run_again(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    async with open_database(dsn, OPTIONS) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as holder:
            holder.execute("LOCK TABLE tasks")
            running = asyncio.create_task(tasks.create(database, user_id, TASK))
            await admin.waiting()
            (lent,) = database.pool._lent
            lent.abort()
            with pytest.raises(OutcomeUnknown):
                await running

        admin.execute("SELECT pg_advisory_lock(7)")
        reading = asyncio.create_task(database.row(READ_BEHIND_LOCK, {}))
        # What waits before that is the write that was cut, until its process notices.
        await asyncio.to_thread(eventually, lambda: bool(database.pool._lent))
        await admin.waiting()
        (lent,) = database.pool._lent
        lent.abort()
        admin.execute("SELECT pg_advisory_unlock(7)")
        assert await reading == {"value": 7}


async def test_what_a_pooler_says_of_its_server_proves_nothing(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    options = DatabaseOptions(limits=OPTIONS.limits, statement_timeout=20, behind_pooler=True)
    async with open_database(dsn, options) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as holder:
            holder.execute("LOCK TABLE tasks")
            running = asyncio.create_task(tasks.create(database, user_id, TASK))
            admin.execute("SELECT pg_terminate_backend(%s)", await admin.waiting())
            with pytest.raises(OutcomeUnknown):
                await running


async def test_a_write_that_met_another_one_is_run_again(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    admin.alter("SET default_transaction_isolation = 'repeatable read'")
    async with open_database(dsn, OPTIONS) as database:
        user_id = await new_user(database)
        task = await tasks.create(database, user_id, TASK)
        assert task
        with psycopg.connect(dsn.conninfo) as other:
            other.execute("UPDATE tasks SET title = 'Buy bread'")
            running = asyncio.create_task(tasks.patch(database, user_id, task["id"], {"priority": "high"}))
            await admin.waiting()
            # The statement that waits began before this, so PostgreSQL refuses to let it go on.
        changed = await running

        assert changed
        assert (changed["title"], changed["priority"]) == ("Buy bread", "high")


async def test_the_victim_of_a_deadlock_is_run_again(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    admin.alter("SET deadlock_timeout = '200ms'")
    task_id = uuid4()
    async with open_database(dsn, OPTIONS) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as other:
            other.execute("SET deadlock_timeout = '1h'")
            other.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [user_id])
            # It has written the task and waits for the user, as the other does the other way round.
            running = asyncio.create_task(tasks.create(database, user_id, TASK, task_id))
            await admin.waiting()
            insert = "INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'Theirs') ON CONFLICT DO NOTHING"
            await asyncio.to_thread(other.execute, insert, [task_id, user_id])
        created = await running

        assert created
        assert (created["title"], created["replayed"]) == ("Theirs", True)


async def test_a_lock_that_comes_too_late_is_waited_for_again_but_not_for_ever(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    admin.alter("SET lock_timeout = '100ms'")
    async with open_database(dsn, OPTIONS) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as holder:
            holder.execute("LOCK TABLE tasks")
            with pytest.raises(Unavailable) as refusal:
                await tasks.create(database, user_id, TASK)
            running = asyncio.create_task(tasks.create(database, user_id, TASK))
            await admin.waiting()

        assert type(refusal.value) is Unavailable
        assert await running
        assert admin.count("Buy milk") == 1


async def test_a_write_cut_off_at_its_deadline_has_not_happened_if_the_server_says_so(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    async with open_database(dsn, DatabaseOptions(limits=OPTIONS.limits, statement_timeout=0.3)) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as holder:
            holder.execute("LOCK TABLE tasks")
            with pytest.raises(DeadlineExceeded):
                await tasks.create(database, user_id, TASK)

        assert admin.count("Buy milk") == 0


async def test_of_a_write_that_a_frozen_server_has_nobody_knows(postgres: PostgresServer) -> None:
    options = DatabaseOptions(limits=OPTIONS.limits, statement_timeout=0.3)
    async with open_database(postgres.dsn, options) as database:
        user_id = await new_user(database)
        await asyncio.to_thread(postgres.freeze)
        try:
            with pytest.raises(OutcomeUnknown):
                await tasks.create(database, user_id, TASK)
        finally:
            await asyncio.to_thread(postgres.thaw)


async def test_a_connection_to_a_server_that_is_only_read_is_replaced_but_not_at_every_write(
    own: tuple[Dsn, Admin], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, admin = own
    async with open_database(dsn, OPTIONS) as before:
        user_id = await new_user(before)
    admin.alter("SET default_transaction_read_only = on")
    async with open_database(dsn, OPTIONS) as database:
        admin.alter("RESET default_transaction_read_only")
        monkeypatch.setattr(database_module, "RENEWED_AFTER", 3600.0)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await tasks.create(database, user_id, TASK)
        monkeypatch.setattr(database_module, "RENEWED_AFTER", 0.0)
        with pytest.raises(Unavailable):
            await tasks.create(database, user_id, TASK)

        assert await tasks.create(database, user_id, TASK)


async def test_a_session_is_cut_off_at_its_deadline(own: tuple[Dsn, Admin]) -> None:
    dsn, _ = own
    async with open_database(dsn, DatabaseOptions(limits=OPTIONS.limits, statement_timeout=0.2)) as database:
        with pytest.raises(Unavailable):
            async with database.session() as session:
                await (await session.connection()).execute(text("SELECT pg_sleep(20)"))
        assert database.pool.stats.in_use == 0

        async with database.session() as session:
            await (await session.connection()).execute(text("SELECT 1"))
        await asyncio.sleep(0.3)
        assert not any(connection.invalidated for connection in database.pool._idle)


@pytest.mark.parametrize("how", ["ended by the server", "cut"])
async def test_a_session_that_loses_its_connection_gives_it_back_all_the_same(own: tuple[Dsn, Admin], how: str) -> None:
    dsn, admin = own
    async with open_database(dsn, OPTIONS) as database:

        async def lose() -> None:
            async with database.session() as session:
                connection = await session.connection()
                pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                if how == "cut":
                    (lent,) = database.pool._lent
                    lent.abort()
                else:
                    admin.execute("SELECT pg_terminate_backend(%s, 5000)", pid)
                await connection.execute(text("SELECT 1"))

        for _ in range(4):
            with pytest.raises(Unavailable):
                await lose()
            assert database.pool.stats.in_use == 0
        assert await users.exists(database, uuid4()) is False


async def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    budget = Retries()
    for attempts in range(1, retries.ATTEMPTS):
        for _ in range(20):
            assert await budget.wait(attempts, deadline=float("inf"))

    for attempts in range(1, retries.ATTEMPTS):
        some = pauses[(attempts - 1) * 20 : attempts * 20]
        usual = retries.FIRST_PAUSE * 2 ** (attempts - 1)
        assert usual / 2 <= min(some) < max(some) <= usual * 1.5
    assert not await budget.wait(retries.ATTEMPTS, deadline=float("inf"))


async def test_a_retry_that_would_come_too_late_is_not_made() -> None:
    assert not await Retries().wait(1, deadline=0.0)


async def test_all_retries_of_a_process_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retries, "REFILL", 0.0)
    budget = Retries()
    made = [await budget.wait(1, deadline=float("inf")) for _ in range(retries.BUDGET + 50)]
    monkeypatch.setattr(retries, "REFILL", 1e9)

    assert made == [True] * retries.BUDGET + [False] * 50
    assert await budget.wait(1, deadline=float("inf"))


async def test_both_statements_of_a_request_share_its_deadline(own: tuple[Dsn, Admin]) -> None:
    dsn, admin = own
    held, limit = 1.0, 2.0
    async with open_database(dsn, DatabaseOptions(limits=OPTIONS.limits, statement_timeout=limit)) as database:
        user_id = await new_user(database)
        with psycopg.connect(dsn.conninfo) as first, psycopg.connect(dsn.conninfo) as second:
            first.execute("LOCK TABLE tasks")
            started = monotonic()
            running = asyncio.create_task(tasks.remove(database, user_id, uuid4(), {1}))
            await admin.waiting()
            # It stands in line behind the first statement, and before the one that is to explain why that failed.
            locking = asyncio.create_task(asyncio.to_thread(second.execute, "LOCK TABLE tasks"))
            await asyncio.sleep(held)
            first.rollback()
            with pytest.raises(DeadlineExceeded):
                await running
            took = monotonic() - started
            await locking

    # A deadline of its own for each would have made it as much longer as the lock was held.
    assert took < held + limit
