"""One statement in one round trip: its result, its deadline, the connections that it uses, and its log."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import col, select

from persistence import migrator, tasks
from persistence.models import Task, User
from persistence.postgres import pool
from persistence.postgres.connection import PREPARE_AFTER
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import DeadlineExceeded, SchemaMismatch, Unavailable, UniqueViolated
from tests.database.helpers import (
    FOREVER,
    LONG,
    PID,
    SLEEP,
    TASK,
    Admin,
    eventually,
    new_user,
    options,
    pid_of,
    statement,
    value_of,
)
from tests.support.databases import as_owner, migrate_and_grant


async def test_it_returns_all_rows_or_the_first_or_none(database: Database) -> None:
    numbers = statement("SELECT value FROM generate_series(1, :most) AS value")
    assert await database.rows(numbers, {"most": 3}) == [{"value": 1}, {"value": 2}, {"value": 3}]
    assert await database.row(numbers, {"most": 2}) == {"value": 1}
    assert await database.row(numbers, {"most": 0}) is None
    with pytest.raises(Exception, match="most"):
        await database.row(numbers, {})


async def test_a_statement_is_committed_by_itself(database: Database, alice: UUID, dsn: Dsn) -> None:
    query = "INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), :owner, 'One') RETURNING title AS value"
    assert await value_of(database, query, owner=alice) == "One"
    with psycopg.connect(as_owner(dsn).conninfo) as other:
        assert other.execute("SELECT title FROM tasks WHERE user_id = %s", [alice]).fetchall() == [("One",)]


async def test_times_are_in_utc_whatever_the_time_zone_of_the_server(empty_dsn: Dsn, admin: Admin) -> None:
    admin.alter("SET timezone = 'Asia/Kolkata'")
    async with open_database(empty_dsn, options()) as database:
        noon = await value_of(database, "SELECT timestamptz '2026-07-01 12:00+05:30' AS value")
        async with database.session() as session:
            now = (await (await session.connection()).execute(text("SELECT now()"))).scalar_one()
    assert noon.isoformat() == "2026-07-01T06:30:00+00:00"
    assert now.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=10)


@pytest.mark.parametrize("behind_pooler", [False, True])
async def test_statements_are_prepared_unless_the_database_is_behind_a_pooler(dsn: Dsn, behind_pooler: bool) -> None:
    async with open_database(replace(dsn, behind_pooler=behind_pooler), options(most=1)) as database:
        for _ in range(10):
            await value_of(database, "SELECT 7 AS value")
        prepared = await value_of(
            database, "SELECT count(*) AS value FROM pg_prepared_statements WHERE statement LIKE 'SELECT 7%'"
        )
    assert bool(prepared) is not behind_pooler


@pytest.mark.parametrize(("usual", "timeout"), [(0.1, None), (LONG, 0.1)])
async def test_a_statement_past_its_deadline_is_cut_off_and_its_connection_replaced(
    dsn: Dsn, usual: float, timeout: float | None
) -> None:
    async with open_database(dsn, options(most=1, statement_timeout=usual)) as database:
        pid = await pid_of(database)
        with pytest.raises(DeadlineExceeded):
            await database.rows(SLEEP, FOREVER, timeout)
        assert database.pool.stats.in_use == 0
        assert await pid_of(database) != pid
        assert database.pool.stats.size == 1


async def test_the_deadline_includes_the_wait_for_a_connection(single: Database) -> None:
    held = await single.pool.check_out()
    asyncio.get_running_loop().call_later(0.4, single.pool.check_in, held)
    with pytest.raises(Unavailable):
        # Each of the wait and the statement takes less than the timeout.
        await single.rows(SLEEP, {"seconds": 0.4}, 0.6)


async def test_what_a_request_has_waited_for_before_counts(single: Database) -> None:
    with pytest.raises(Unavailable):
        await single.after(LONG).rows(SLEEP, FOREVER)
    assert await pid_of(single.after(0))


async def test_the_deadline_of_one_statement_does_not_cut_off_the_next(single: Database) -> None:
    timeout, answered = 0.1, False
    while not answered:
        timeout *= 2
        with contextlib.suppress(Unavailable):
            answered = bool(await single.rows(PID, {}, timeout))
    assert await single.rows(SLEEP, {"seconds": 2 * timeout})


async def test_a_statement_that_was_cut_off_does_not_go_on_in_the_server(empty_dsn: Dsn, admin: Admin) -> None:
    # A long lock would otherwise gather one waiting process for each request, until the server refuses connections.
    admin.execute("SELECT pg_advisory_lock(7)")
    async with open_database(empty_dsn, options(most=2)) as database:
        for _ in range(6):
            with pytest.raises(Unavailable):
                await database.rows(statement("SELECT pg_advisory_lock(7) AS value"), {}, 0.1)
        await eventually(lambda: len(admin.pids()) <= 2)


async def test_no_connection_is_leaked_by_a_hundred_requests_of_every_outcome(empty_dsn: Dsn, admin: Admin) -> None:
    outcomes = [PID, statement("SELECT 1 / 0 AS value"), statement("SELECT 1 FROM nowhere"), SLEEP]

    async def use_and_fail() -> None:
        async with open_database(empty_dsn, options(least=2, most=4)) as database:
            await asyncio.gather(
                *(database.rows(outcomes[number % 4], FOREVER, 0.5) for number in range(100)), return_exceptions=True
            )

            assert (database.pool.stats.in_use, database.pool.stats.waiting) == (0, 0)
            assert database.pool.stats.size <= 4
            assert await pid_of(database) in admin.pids()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use_and_fail()
    # Leaving by an error closes every connection.
    await eventually(lambda: not admin.pids())


@pytest.mark.plain("goes back to before revision 0010")
async def test_statements_that_were_prepared_outlast_the_tables_that_they_knew(migrated_dsn: Dsn) -> None:
    async with open_database(migrated_dsn, options(most=1)) as database:
        for _ in range(2):
            user = await new_user(database)
            for _ in range(10):
                assert await tasks.get(database, user, user) is None
            migrator.migrate(as_owner(migrated_dsn), "base")
            migrate_and_grant(migrated_dsn)


@pytest.mark.plain("goes back to before revision 0010")
async def test_one_statement_that_can_no_longer_be_run_renews_all_connections(
    migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The types of a restored schema are other ones, which a plan of before does not know (XX000)."""
    monkeypatch.setattr(pool, "RENEWED_AFTER", 0.0)
    async with open_database(migrated_dsn, options(least=4, most=4)) as database:
        user = await new_user(database)
        for _ in range(10):
            # Each goes to a connection of its own, which comes to prepare the statement.
            await asyncio.gather(*(tasks.create(database, user, TASK) for _ in range(4)))
        migrator.migrate(as_owner(migrated_dsn), "base")
        migrate_and_grant(migrated_dsn)
        user = await new_user(database)
        assert await tasks.create(database, user, TASK)
        assert all(await asyncio.gather(*(tasks.create(database, user, TASK) for _ in range(8))))


async def test_a_schema_that_lacks_something_costs_no_connection(single: Database) -> None:
    """A reconnect at each request and probe would be all that a database behind the code gets to do."""
    before = await pid_of(single)
    for _ in range(2 * PREPARE_AFTER):
        with pytest.raises(SchemaMismatch):
            await single.rows(statement("SELECT 1 AS value FROM nothing"), {})
    assert await pid_of(single) == before


async def test_an_error_that_nobody_expects_closes_its_connection(single: Database) -> None:
    before = await pid_of(single)
    with pytest.raises(psycopg.errors.SyntaxError):
        await single.rows(statement("SELECT 1 AS value FROM"), {})
    assert await pid_of(single) != before


@pytest.mark.parametrize("setting", ["datestyle = 'German'", "datestyle = 'SQL, DMY'", "client_encoding = 'LATIN1'"])
async def test_settings_of_the_database_do_not_decide_how_values_are_read(
    migrated_dsn: Dsn, admin: Admin, setting: str
) -> None:
    admin.alter(f"SET {setting}")
    due = datetime(2030, 4, 5, 6, 7, 8, 9, UTC)
    async with open_database(migrated_dsn, options()) as database:
        user = await new_user(database)
        task = await tasks.create(database, user, TASK | {"title": "Käse ❤", "due_date": due})
    assert task
    assert (task["title"], task["due_date"]) == ("Käse ❤", due)


async def test_it_logs_every_statement_through_each_entry_point_and_no_parameter(
    dsn: Dsn, alice: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_database(dsn, options(log_sql=True)) as database:
        query = "SELECT   title AS value\n FROM tasks WHERE title <> :title OR true"
        await database.rows(statement(query), {"title": "hunter2-rows"})
        again = statement("SELECT cast(:word AS text) AS value"), {"word": "hunter2-together"}
        await database.together([again, again, (statement("SELECT 7 AS value"), {})])
        async with database.session() as session:
            await session.exec(select(Task.title).where(col(Task.id) == alice, col(Task.title) != "hunter2-session"))
            session.add(Task(user_id=alice, title="hunter2-insert"))
        async with database.connection() as connection:
            await connection.execute("SELECT %s::text", ["hunter2-connection"])
        insert = statement("INSERT INTO users (id) VALUES (:id)")
        with pytest.raises(UniqueViolated):
            await database.rows(insert, {"id": alice})
        try:
            int("not a number")
        except ValueError:
            # A caller that handles an error may run a statement in doing so, which has not failed.
            await pid_of(database)
    records = [record for record in caplog.records if record.name == "persistence.sql"]
    lines = [record.getMessage() for record in records]
    assert {record.levelname for record in records} == {"DEBUG"}
    for logged in (
        "rows: SELECT title AS value FROM tasks",
        "3 rows: SELECT cast($1 AS text) AS value; SELECT 7 AS value",
        "rows: SELECT tasks.title",
        "1 rows: INSERT INTO tasks",
        "rows: SELECT %s::text",
        "failed: UniqueViolation: INSERT INTO users",
        "1 rows: SELECT pg_backend_pid()",
    ):
        assert sum(logged in line for line in lines) == 1, logged
    assert "hunter2" not in caplog.text


async def test_it_logs_no_statement_unless_told_to(dsn: Dsn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_database(dsn, options()) as database:
        await pid_of(database)
        async with database.session() as session:
            await session.exec(select(User.id))
    assert "SELECT" not in caplog.text
