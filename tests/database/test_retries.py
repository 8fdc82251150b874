"""Retries: reads, and writes that cannot have happened; the error when it is not known if a write has happened."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import tasks
from persistence.postgres import pool, retries
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded, OutcomeUnknown, Unavailable, for_log
from persistence.postgres.retries import Retries
from tests.database.helpers import LONG, TASK, Admin, new_user, options, statement, value_of
from tests.database.wire import Wire
from tests.support.databases import as_owner
from tests.support.servers import PostgresServer

OPTIONS = options(most=3)
READ_BEHIND_LOCK = statement("SELECT 7 AS value FROM pg_advisory_lock_shared(7)")


@asynccontextmanager
async def opened(dsn: Dsn) -> AsyncIterator[tuple[Database, UUID]]:
    """The database, with a user."""
    async with open_database(dsn, OPTIONS) as database:
        yield database, await new_user(database)


@contextmanager
def locked_tasks(dsn: Dsn) -> Iterator[psycopg.Connection]:
    with psycopg.connect(as_owner(dsn).conninfo) as holder:
        holder.execute("LOCK TABLE tasks")
        yield holder


async def test_a_read_is_run_again_when_its_connection_is_ended(empty_dsn: Dsn, admin: Admin) -> None:
    admin.execute("SELECT pg_advisory_lock(7)")
    async with open_database(empty_dsn, OPTIONS) as database:
        running = asyncio.create_task(database.row(READ_BEHIND_LOCK, {}))
        admin.terminate(await admin.waiting())
        await admin.waiting()
        admin.execute("SELECT pg_advisory_unlock(7)")
        assert await running == {"value": 7}


@pytest.mark.parametrize(
    "speaker",
    [pytest.param("the server itself", marks=pytest.mark.plain("is one server")), "a pooler", "a coordinator"],
)
async def test_a_write_that_was_not_finished_is_run_again_and_happens_once(
    migrated_dsn: Dsn, admin: Admin, speaker: str
) -> None:
    if speaker == "a coordinator":
        admin.load_citus()
    async with opened(replace(migrated_dsn, behind_pooler=speaker == "a pooler")) as (database, user):
        with locked_tasks(migrated_dsn):
            running = asyncio.create_task(tasks.create(database, user, TASK))
            admin.terminate(await admin.waiting())
            if speaker != "the server itself":
                # The word of one server for another proves nothing.
                with pytest.raises(OutcomeUnknown):
                    await running
                return
            admin.terminate(await admin.waiting())
            await admin.waiting()
        created = await running
        assert created
        assert not created["replayed"]
        assert admin.value("SELECT count(*) FROM tasks") == 1


@pytest.mark.plain("has triggers")
async def test_a_write_that_was_finished_but_not_yet_committed_is_not_run_again(
    migrated_dsn: Dsn, admin: Admin
) -> None:
    admin.execute("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); END'")
    # A deferred trigger runs in the commit, after the server has said that the statement is done.
    admin.execute(
        "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION dawdle()"
    )
    async with opened(migrated_dsn) as (database, user):
        running = asyncio.create_task(tasks.create(database, user, TASK))
        admin.terminate(await admin.waiting())
        with pytest.raises(OutcomeUnknown):
            await running


async def test_a_write_whose_connection_is_cut_may_have_happened_and_a_read_is_run_again(
    migrated_dsn: Dsn, admin: Admin
) -> None:
    wire = Wire()
    async with wire.relay(migrated_dsn) as through, opened(through) as (database, user):
        with locked_tasks(migrated_dsn):
            running = asyncio.create_task(tasks.create(database, user, TASK))
            writing = await admin.waiting()
            wire.cut()
            with pytest.raises(OutcomeUnknown):
                await running
            admin.terminate(writing)
        admin.execute("SELECT pg_advisory_lock(7)")
        reading = asyncio.create_task(database.row(READ_BEHIND_LOCK, {}))
        await admin.waiting()
        wire.cut()
        admin.execute("SELECT pg_advisory_unlock(7)")
        assert await reading == {"value": 7}


@pytest.mark.plain("has triggers")
@pytest.mark.parametrize("state", ["08006", "08P01", "40003", "57P01", "57P05", "25P04"])
async def test_a_write_is_not_run_again_on_the_word_of_a_server_about_another_one(
    migrated_dsn: Dsn, admin: Admin, state: str
) -> None:
    """A pooler or a coordinator reports a lost connection of its own, and the connection to it goes on."""
    admin.execute("CREATE SEQUENCE attempts")
    admin.execute(
        "CREATE FUNCTION fail(state text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN PERFORM nextval(''attempts''); RAISE ''lost'' USING ERRCODE = state; END'"
    )
    admin.execute(
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM fail(''{state}''); END';"
        "CREATE TRIGGER fail BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    async with opened(migrated_dsn) as (database, user):
        with pytest.raises(OutcomeUnknown):
            await tasks.create(database, user, TASK)
        assert admin.value("SELECT last_value FROM attempts") == 1
        if state == "08006":
            # A read cannot do harm.
            with pytest.raises(Unavailable) as refusal:
                await database.rows(statement("SELECT fail(:state)::text AS value"), {"state": state})
            assert type(refusal.value) is Unavailable
            assert admin.value("SELECT last_value FROM attempts") == 1 + retries.ATTEMPTS


def fail_creates(admin: Admin, times: int, state: str, message: str) -> None:
    """The next creates of a task end in this error; the sequence `attempts` counts all."""
    admin.execute("CREATE SEQUENCE attempts")
    admin.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN"
        f" IF nextval(''attempts'') <= {times} THEN RAISE ''{message}'' USING ERRCODE = ''{state}''; END IF;"
        " RETURN NEW; END'; CREATE TRIGGER fail BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION fail()"
    )


ON_THE_MOVE = [
    ("XX000", "could not find valid entry for shard 102008"),
    ("CIINF", "Query could not find the intermediate result file"),
]


@pytest.mark.plain("has triggers")
@pytest.mark.parametrize(("state", "message"), ON_THE_MOVE)
async def test_a_write_that_meets_rows_on_the_move_is_run_again(
    migrated_dsn: Dsn, admin: Admin, state: str, message: str
) -> None:
    fail_creates(admin, 2, state, message)
    async with opened(migrated_dsn) as (database, user):
        created = await tasks.create(database, user, TASK)
    assert created
    assert not created["replayed"]
    assert admin.value("SELECT last_value FROM attempts") == 3


@pytest.mark.plain("has triggers")
@pytest.mark.parametrize(("state", "message"), ON_THE_MOVE)
async def test_a_write_that_meets_them_again_and_again_has_not_happened_and_the_log_says_why(
    migrated_dsn: Dsn, admin: Admin, state: str, message: str
) -> None:
    fail_creates(admin, 1000, state, message)
    async with opened(migrated_dsn) as (database, user):
        with pytest.raises(Unavailable) as refusal:
            await tasks.create(database, user, TASK)
    assert type(refusal.value) is Unavailable
    assert for_log(refusal.value) == f"The database cannot serve this request now. ({state}: {message})"
    assert admin.value("SELECT last_value FROM attempts") == retries.ATTEMPTS


@pytest.mark.plain("has triggers")
@pytest.mark.parametrize(
    "message",
    [
        "server closed the connection unexpectedly",
        "could not commit transaction for shard 102008 on at least 1 node",
        "failure on connection marked as essential: 127.0.0.1:5432",
    ],
)
async def test_a_write_whose_node_was_lost_may_have_happened_and_is_not_run_again(
    migrated_dsn: Dsn, admin: Admin, message: str
) -> None:
    fail_creates(admin, 1000, "XX000", message)
    async with opened(migrated_dsn) as (database, user):
        with pytest.raises(OutcomeUnknown):
            await tasks.create(database, user, TASK)
    assert admin.value("SELECT last_value FROM attempts") == 1


@pytest.mark.plain("has triggers")
async def test_any_other_internal_error_is_unexpected_and_is_not_run_again(migrated_dsn: Dsn, admin: Admin) -> None:
    fail_creates(admin, 1000, "XX000", "unrecognized node type: 22")
    async with opened(migrated_dsn) as (database, user):
        with pytest.raises(psycopg.errors.InternalError_):
            await tasks.create(database, user, TASK)
    assert admin.value("SELECT last_value FROM attempts") == 1


async def test_a_write_that_fails_to_serialize_is_run_again(migrated_dsn: Dsn, admin: Admin) -> None:
    admin.alter("SET default_transaction_isolation = 'repeatable read'")
    async with opened(migrated_dsn) as (database, user):
        task = await tasks.create(database, user, TASK)
        assert task
        with psycopg.connect(as_owner(migrated_dsn).conninfo) as other:
            other.execute("UPDATE tasks SET title = 'Buy bread'")
            running = asyncio.create_task(tasks.patch(database, user, task["id"], {"priority": "high"}))
            await admin.waiting()
            # The statement that waits began before this commit, so PostgreSQL refuses to let it go on.
        changed = await running
        assert changed
        assert (changed["title"], changed["priority"]) == ("Buy bread", "high")


async def test_the_victim_of_a_deadlock_is_run_again(migrated_dsn: Dsn, admin: Admin) -> None:
    admin.alter("SET deadlock_timeout = '200ms'")
    task_id = uuid4()
    async with opened(migrated_dsn) as (database, user):
        with psycopg.connect(as_owner(migrated_dsn).conninfo) as other:
            other.execute("SET deadlock_timeout = '1h'")
            insert = "INSERT INTO tasks (id, user_id, title) VALUES (%s, %s, 'Theirs')"
            other.execute(insert, [task_id, user])
            # The create has raised the user and waits for the task; the other does so in the opposite order.
            running = asyncio.create_task(tasks.create(database, user, TASK, task_id))
            await admin.waiting()
            await asyncio.to_thread(other.execute, "UPDATE users SET revision = revision + 1 WHERE id = %s", [user])
        created = await running
        assert created
        assert (created["title"], created["replayed"]) == ("Theirs", True)


async def test_a_write_that_gets_no_lock_in_time_is_run_again_but_not_for_ever(migrated_dsn: Dsn, admin: Admin) -> None:
    admin.alter("SET lock_timeout = '100ms'")
    async with opened(migrated_dsn) as (database, user):
        with locked_tasks(migrated_dsn) as holder:
            with pytest.raises(Unavailable) as refusal:
                await tasks.create(database, user, TASK)
            assert type(refusal.value) is Unavailable
            running = asyncio.create_task(tasks.create(database, user, TASK))
            await admin.waiting()
            holder.rollback()
            assert await running
        assert admin.value("SELECT count(*) FROM tasks") == 1


async def test_a_write_cut_off_at_its_deadline_has_not_happened_if_the_server_says_so(
    migrated_dsn: Dsn, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CANCEL_TIMEOUT", LONG)
    async with opened(migrated_dsn) as (database, user):
        values = {"id": uuid4(), "user_id": user, **TASK}
        with locked_tasks(migrated_dsn), pytest.raises(DeadlineExceeded):
            await database.row(tasks.CREATE, values, 0.3)
        assert admin.value("SELECT count(*) FROM tasks") == 0


async def test_a_write_that_a_frozen_server_has_may_have_happened(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn) as (database, user):
        await asyncio.to_thread(postgres.freeze)
        try:
            with pytest.raises(OutcomeUnknown):
                await database.row(tasks.CREATE, {"id": uuid4(), "user_id": user, **TASK}, 0.3)
        finally:
            await asyncio.to_thread(postgres.thaw)


async def test_a_connection_to_a_server_that_can_only_be_read_is_replaced_but_not_at_every_write(
    migrated_dsn: Dsn, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(migrated_dsn) as (_, user):
        pass
    admin.alter("SET default_transaction_read_only = on")
    async with open_database(migrated_dsn, OPTIONS) as database:
        admin.alter("RESET default_transaction_read_only")
        monkeypatch.setattr(pool, "RENEWED_AFTER", 3600.0)
        for _ in range(2):
            with pytest.raises(Unavailable) as refusal:
                await tasks.create(database, user, TASK)
            assert isinstance(refusal.value.__cause__, psycopg.errors.ReadOnlySqlTransaction)
        assert await value_of(database, "SELECT 1 AS value") == 1
        monkeypatch.setattr(pool, "RENEWED_AFTER", 0.0)
        with pytest.raises(Unavailable):
            await tasks.create(database, user, TASK)
        assert await tasks.create(database, user, TASK)


async def test_both_statements_of_a_request_share_its_deadline(migrated_dsn: Dsn, admin: Admin) -> None:
    async with opened(migrated_dsn) as (_, user):
        pass
    async with open_database(migrated_dsn, options(statement_timeout=1.0)) as database:
        with locked_tasks(migrated_dsn) as first, psycopg.connect(as_owner(migrated_dsn).conninfo) as second:
            running = asyncio.create_task(tasks.remove(database, user, uuid4(), {1}))
            await admin.waiting()
            # This lock is queued behind the first statement, and before the one that is to explain why that failed.
            locking = asyncio.create_task(asyncio.to_thread(second.execute, "LOCK TABLE tasks"))
            await asyncio.sleep(0.7)
            first.rollback()
            for _ in range(8):
                # Each statement waits for less than the deadline. A pause of the machine counts in one of these only.
                await asyncio.sleep(0.1)
            await locking
            second.rollback()
            with pytest.raises(Unavailable):
                await running


async def test_pauses_grow_and_differ_and_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    # For this module only: a pool that sleeps between its rounds would go round and round.
    monkeypatch.setattr(retries, "asyncio", SimpleNamespace(sleep=note))
    budget, never = Retries(), float("inf")
    for attempts in range(1, retries.ATTEMPTS):
        pauses.clear()
        for _ in range(20):
            assert await budget.wait(attempts, deadline=never)
        usual = retries.FIRST_PAUSE * 2 ** (attempts - 1)
        assert usual / 2 <= min(pauses) < max(pauses) <= usual * 1.5
    assert not await budget.wait(retries.ATTEMPTS, deadline=never)
    # A retry that would come too late is not made.
    assert not await budget.wait(1, deadline=0.0)


async def test_all_retries_of_a_process_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retries, "REFILL", 0.0)
    budget, never = Retries(), float("inf")
    made = [await budget.wait(1, deadline=never) for _ in range(retries.BUDGET + 50)]
    monkeypatch.setattr(retries, "REFILL", 1e9)
    assert made == [True] * retries.BUDGET + [False] * 50
    assert await budget.wait(1, deadline=never)
