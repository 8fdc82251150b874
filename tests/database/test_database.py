"""The two doors: one statement in one round trip, or a session; and what their failures mean to whoever called."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import bindparam, text
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.models import Task, User
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import (
    RULES,
    ConstraintViolated,
    DeadlineExceeded,
    ForeignKeyViolated,
    InvalidValue,
    OutcomeUnknown,
    PoolTimeout,
    Unavailable,
    UniqueViolated,
    translate,
)
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.postgres.statement import Statement


class Value(TypedDict):
    value: Any


class ChangedMyMind(Exception):
    """What goes wrong in the middle of a session, and is nobody else's error."""


def statement(query: str) -> Statement[Value]:
    clause = text(query)
    return Statement(clause.columns() if query.startswith("SELECT") else clause, Value)


TWO = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2))


async def value_of(database: Database, query: str, **values: Any) -> Any:
    row = await database.row(statement(query), values)
    assert row
    return row["value"]


async def titles_of(database: Database, owner: UUID) -> list[str]:
    async with database.session() as session:
        return list((await session.exec(select(Task.title).where(Task.user_id == owner).order_by(Task.title))).all())


async def test_it_returns_all_rows_as_dicts(database: Database) -> None:
    rows = await database.rows(statement("SELECT value FROM generate_series(1, :most) AS value"), {"most": 3})

    assert rows == [{"value": 1}, {"value": 2}, {"value": 3}]


async def test_it_returns_the_first_row_or_none(database: Database) -> None:
    numbers = statement("SELECT value FROM generate_series(1, :most) AS value")

    assert await database.row(numbers, {"most": 2}) == {"value": 1}
    assert await database.row(numbers, {"most": 0}) is None


async def test_a_statement_is_committed_by_itself(database: Database, alice: UUID, dsn: Dsn) -> None:
    await value_of(
        database,
        "INSERT INTO tasks (id, user_id, title) VALUES (:id, :owner, 'Buy milk') RETURNING id AS value",
        id=uuid4(),
        owner=alice,
    )

    with psycopg.connect(dsn.conninfo) as other:
        assert other.execute("SELECT title FROM tasks WHERE user_id = %s", [alice]).fetchall() == [("Buy milk",)]


async def test_a_session_commits_on_success(database: Database, alice: UUID) -> None:
    async with database.session() as session:
        session.add(Task(user_id=alice, title="one"))
        session.add(Task(user_id=alice, title="two"))

    assert await titles_of(database, alice) == ["one", "two"]


async def test_what_a_session_made_can_be_read_after_the_commit(database: Database, alice: UUID) -> None:
    async with database.session() as session:
        task = Task(user_id=alice, title="one")
        session.add(task)

    assert (task.title, task.priority, task.tags) == ("one", "medium", [])


async def test_a_session_rolls_everything_back_on_an_error(database: Database, alice: UUID) -> None:
    async def change_ones_mind() -> None:
        async with database.session() as session:
            session.add(Task(user_id=alice, title="one"))
            await session.flush()
            raise ChangedMyMind

    with pytest.raises(ChangedMyMind):
        await change_ones_mind()

    assert await titles_of(database, alice) == []


async def test_a_session_rolls_back_when_the_commit_itself_is_refused(database: Database, alice: UUID) -> None:
    with pytest.raises(ConstraintViolated, match="ck_tasks_title_length"):
        async with database.session() as session:
            session.add_all([Task(user_id=alice, title="fine"), Task(user_id=alice, title="")])

    assert await titles_of(database, alice) == []


async def test_a_session_that_is_cancelled_rolls_back_and_gives_its_connection_back(dsn: Dsn, alice: UUID) -> None:
    async with open_database(dsn, TWO) as database:
        written = asyncio.Event()

        async def write() -> None:
            async with database.session() as session:
                session.add(Task(user_id=alice, title="one"))
                await session.flush()
                written.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(write())
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert database.pool.stats.in_use == 0
        assert await titles_of(database, alice) == []


async def test_a_session_is_given_back_after_success_and_after_each_kind_of_error(dsn: Dsn, alice: UUID) -> None:
    async with open_database(dsn, TWO) as database:
        for fault in (None, ChangedMyMind(), asyncio.CancelledError()):
            with contextlib.suppress(ChangedMyMind, asyncio.CancelledError):
                async with database.session() as session:
                    await session.exec(select(User.id))
                    if fault:
                        raise fault
            assert database.pool.stats.in_use == 0
        with pytest.raises(ForeignKeyViolated):
            async with database.session() as session:
                session.add(Task(user_id=uuid4(), title="Nobody's"))
        assert database.pool.stats.in_use == 0
        assert database.pool.stats.size <= 2


async def test_a_session_that_asks_nothing_takes_no_connection(dsn: Dsn) -> None:
    async with open_database(dsn, TWO) as database, database.session():
        assert database.pool.stats.in_use == 0


async def test_each_user_gets_a_session_and_a_transaction_of_his_own(database: Database) -> None:
    barrier = asyncio.Barrier(5)

    async def use() -> tuple[AsyncSession, int]:
        async with database.session() as session:
            connection = await session.connection()
            transaction = (await connection.execute(text("SELECT pg_current_xact_id()::text"))).scalar_one()
            # All are open at the same time, so nobody can have got what another gave back.
            await barrier.wait()
            return session, int(transaction)

    results = await asyncio.gather(*(use() for _ in range(5)))

    assert len({id(session) for session, _ in results}) == 5
    assert len({transaction for _, transaction in results}) == 5


async def test_a_session_does_not_show_what_another_has_not_committed(database: Database, alice: UUID) -> None:
    async with database.session() as session:
        session.add(Task(user_id=alice, title="not yet"))
        await session.flush()
        assert await titles_of(database, alice) == []

    assert await titles_of(database, alice) == ["not yet"]


async def test_a_connection_commits_single_statements_again_after_a_session(dsn: Dsn, alice: UUID) -> None:
    one = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1))
    async with open_database(dsn, one) as database:
        pid = await value_of(database, "SELECT pg_backend_pid() AS value")
        for fails in (False, True):
            with contextlib.suppress(ChangedMyMind):
                async with database.session() as session:
                    await session.exec(select(User.id))
                    if fails:
                        raise ChangedMyMind
            await value_of(
                database,
                "UPDATE users SET name = :name WHERE id = :id RETURNING id AS value",
                name=f"after {fails}",
                id=alice,
            )
            with psycopg.connect(dsn.conninfo) as other:
                assert other.execute("SELECT name FROM users WHERE id = %s", [alice]).fetchone() == (f"after {fails}",)
        assert await value_of(database, "SELECT pg_backend_pid() AS value") == pid


async def test_a_bare_connection_is_one_transaction(database: Database, alice: UUID) -> None:
    async def insert(title: str, *, fails: bool) -> None:
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), %s, %s)", [alice, title]
            )
            if fails:
                raise ChangedMyMind

    with pytest.raises(ChangedMyMind):
        await insert("lost", fails=True)
    await insert("one", fails=False)

    assert await titles_of(database, alice) == ["one"]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
async def test_times_are_in_utc_whatever_the_servers_time_zone(server: Dsn, empty_dsn: Dsn, zone: str) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        name = sql.Identifier(empty_dsn.database)
        admin.execute(sql.SQL("ALTER DATABASE {} SET timezone = {}").format(name, zone))
    async with open_database(empty_dsn, TWO) as database:
        noon = await value_of(database, "SELECT timestamptz '2026-07-01 12:00+05:30' AS value")
        async with database.session() as session:
            now = (await (await session.connection()).execute(text("SELECT now()"))).scalar_one()

    assert noon.isoformat() == "2026-07-01T06:30:00+00:00"
    assert now.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


async def test_our_connections_can_be_told_in_the_servers_list(database: Database) -> None:
    query = "SELECT application_name AS value FROM pg_stat_activity WHERE pid = pg_backend_pid()"

    assert await value_of(database, query) == "todo"


@pytest.mark.parametrize(("pooled", "prepared"), [(False, True), (True, False)])
async def test_statements_are_prepared_unless_a_pooler_is_between(dsn: Dsn, pooled: bool, prepared: bool) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1), behind_pooler=pooled)
    async with open_database(dsn, options) as database:
        for _ in range(10):
            await value_of(database, "SELECT 7 AS value")
        count = await value_of(
            database, "SELECT count(*) AS value FROM pg_prepared_statements WHERE statement LIKE 'SELECT 7%'"
        )

    assert bool(count) == prepared


async def test_a_statement_past_its_deadline_is_cut_off(dsn: Dsn) -> None:
    options = DatabaseOptions(limits=TWO.limits, statement_timeout=0.3)
    sleep = statement("SELECT pg_sleep(10) AS value")
    async with open_database(dsn, options) as database:
        for timeout in (None, 0.1):
            started = monotonic()
            with pytest.raises(DeadlineExceeded):
                await database.rows(sleep, {}, timeout)
            assert (timeout or 0.3) <= monotonic() - started < 3
        assert database.pool.stats.in_use == 0


async def test_the_deadline_includes_the_wait_for_a_connection(dsn: Dsn) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1))
    async with open_database(dsn, options) as database:
        held = await database.pool.check_out()
        asyncio.get_running_loop().call_later(0.3, database.pool.release, held)
        started = monotonic()
        with pytest.raises(DeadlineExceeded):
            await database.rows(statement("SELECT pg_sleep(10) AS value"), {}, 0.5)
        assert 0.5 <= monotonic() - started < 3


async def test_a_statement_within_its_deadline_leaves_nothing_that_could_cut_off_the_next(dsn: Dsn) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1))
    async with open_database(dsn, options) as database:
        await database.rows(statement("SELECT 1 AS value"), {}, 0.2)
        assert await value_of(database, "SELECT pg_sleep(0.4)::text AS value") == ""


async def test_it_logs_every_statement_through_each_door_and_no_parameter(
    dsn: Dsn, alice: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_database(dsn, DatabaseOptions(limits=TWO.limits, log_sql=True)) as database:
        await value_of(database, "SELECT   name AS value\n FROM users WHERE name <> :name OR true", name="hunter2-rows")
        async with database.session() as session:
            await session.exec(select(User.name).where(col(User.id) == alice, col(User.name) != "hunter2-session"))
            session.add(Task(user_id=alice, title="hunter2-insert"))
        async with database.connection() as connection:
            await connection.execute("SELECT %s::text", ["hunter2-connection"])
        with pytest.raises(UniqueViolated):
            await database.rows(
                statement("INSERT INTO users (id, email) VALUES (:id, 'hunter2@x') RETURNING id AS value"),
                {"id": alice},
            )

    lines = [record.getMessage() for record in caplog.records if record.name == "persistence.sql"]
    assert {record.levelname for record in caplog.records if record.name == "persistence.sql"} == {"DEBUG"}
    assert sum("rows: SELECT name AS value FROM users" in line for line in lines) == 1
    assert sum("rows: SELECT users.name" in line for line in lines) == 1
    assert sum("1 rows: INSERT INTO tasks" in line for line in lines) == 1
    assert sum("rows: SELECT %s::text" in line for line in lines) == 1
    assert sum("failed: UniqueViolation: INSERT INTO users" in line for line in lines) == 1
    assert "hunter2" not in caplog.text.replace("'hunter2@x'", "")


async def test_it_does_not_log_a_success_as_a_failure_because_of_another_error(
    dsn: Dsn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "persistence.sql")
    async with open_database(dsn, DatabaseOptions(limits=TWO.limits, log_sql=True)) as database:
        try:
            int("no number")
        except ValueError:
            # Whoever handles an error may ask the database something in doing so.
            await value_of(database, "SELECT 1 AS value")

    assert "1 rows: SELECT 1 AS value" in caplog.text
    assert "failed" not in caplog.text


async def test_it_logs_no_statement_unless_told_to(dsn: Dsn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_database(dsn, TWO) as database:
        await value_of(database, "SELECT 1 AS value")
        async with database.session() as session:
            await session.exec(select(User.id))

    assert "SELECT" not in caplog.text


NEW_TASK = "INSERT INTO tasks (id, user_id, title{}) VALUES (gen_random_uuid(), :owner, 'x'{}) RETURNING id AS value"


@pytest.mark.parametrize(
    ("query", "error", "constraint"),
    [
        (
            (
                "INSERT INTO users (id, email) SELECT gen_random_uuid(), email FROM users WHERE id = :owner"
                " RETURNING id AS value"
            ),
            UniqueViolated,
            "uq_users_email",
        ),
        (
            (
                "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), gen_random_uuid(), name FROM users"
                " WHERE id = :owner RETURNING id AS value"
            ),
            ForeignKeyViolated,
            "fk_tasks_user_id_users",
        ),
        (NEW_TASK.format(", description", ", repeat('x', 1001)"), ConstraintViolated, "ck_tasks_description_length"),
        (NEW_TASK.format(", priority", ", NULL"), ConstraintViolated, "priority"),
    ],
)
async def test_a_refused_value_names_the_rule(
    database: Database, alice: UUID, query: str, error: type[ConstraintViolated], constraint: str
) -> None:
    with pytest.raises(error) as through_rows:
        await database.rows(statement(query), {"owner": alice})
    with pytest.raises(error) as through_session:
        async with database.session() as session:
            await (await session.connection()).execute(text(query), {"owner": alice})

    for refusal in (through_rows.value, through_session.value):
        assert type(refusal) is error
        assert refusal.constraint == constraint
        assert isinstance(refusal.__cause__, errors.IntegrityError)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("SELECT CAST(:value AS text) AS value", "nul\0"),
        ("SELECT CAST(:value AS integer) AS value", 2**40),
        ("SELECT CAST(:value AS timestamptz) AS value", "2026-02-30"),
        ("SELECT CAST(:value AS task_status) AS value", "done"),
        ("SELECT CAST(:value AS uuid) AS value", "7"),
        ("SELECT 1 / CAST(:value AS integer) AS value", 0),
    ],
)
async def test_a_value_that_cannot_be_stored_is_told_from_a_failure(
    database: Database, query: str, value: object
) -> None:
    with pytest.raises(InvalidValue):
        await database.rows(statement(query), {"value": value})
    with pytest.raises(InvalidValue):
        async with database.session() as session:
            await (await session.connection()).execute(text(query), {"value": value})


async def test_a_database_that_may_only_be_read_is_unavailable_for_writing(server: Dsn, empty_dsn: Dsn) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        name = sql.Identifier(empty_dsn.database)
        admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    async with open_database(empty_dsn, TWO) as database:
        assert await value_of(database, "SELECT 1 AS value") == 1
        with pytest.raises(Unavailable) as refusal:
            await database.rows(statement("CREATE TABLE notes ()"), {})

    assert isinstance(refusal.value.__cause__, errors.ReadOnlySqlTransaction)


async def test_a_statement_cancelled_by_an_operator_is_unavailable(dsn: Dsn) -> None:
    async with open_database(dsn, TWO) as database:
        pid = await value_of(database, "SELECT pg_backend_pid() AS value")
        running = asyncio.create_task(database.rows(statement("SELECT pg_sleep(10) AS value"), {}))
        with psycopg.connect(dsn.conninfo, autocommit=True) as admin:
            active = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = %s"
            for _ in range(500):
                await asyncio.sleep(0.01)
                if admin.execute(active, [pid]).fetchone() == (True,):
                    break
            admin.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(Unavailable) as failure:
            await running

        assert type(failure.value) is Unavailable
        assert database.pool.stats.in_use == 0
        assert await value_of(database, "SELECT 1 AS value") == 1


async def test_a_deadlock_ends_with_one_winner_and_one_who_may_try_again(
    database: Database, alice: UUID, bob: UUID
) -> None:
    barrier = asyncio.Barrier(2)
    touch = text("UPDATE users SET name = 'x' WHERE id = :id").bindparams(bindparam("id"))

    async def lock(first: UUID, second: UUID) -> None:
        async with database.session() as session:
            connection = await session.connection()
            await connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
            await connection.execute(touch, {"id": first})
            await barrier.wait()
            await connection.execute(touch, {"id": second})

    results = await asyncio.gather(lock(alice, bob), lock(bob, alice), return_exceptions=True)

    losers = [result for result in results if result is not None]
    assert [type(loser) for loser in losers] == [Unavailable]
    assert isinstance(losers[0].__cause__, errors.DeadlockDetected)


async def test_a_serialization_failure_may_be_tried_again(database: Database, alice: UUID) -> None:
    async def be_overtaken() -> None:
        async with database.session() as session:
            connection = await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            await connection.execute(text("SELECT 1"))
            await value_of(database, "UPDATE users SET name = 'x' WHERE id = :id RETURNING id AS value", id=alice)
            await connection.execute(text("UPDATE users SET name = 'y' WHERE id = :id"), {"id": alice})

    with pytest.raises(Unavailable) as failure:
        await be_overtaken()

    assert isinstance(failure.value.__cause__, errors.SerializationFailure)


async def test_an_isolation_level_of_one_session_is_not_inherited_by_the_next(dsn: Dsn) -> None:
    one = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=1))
    async with open_database(dsn, one) as database:
        before = await value_of(database, "SELECT current_setting('transaction_isolation') AS value")
        async with database.session() as session:
            connection = await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            await connection.execute(text("SELECT 1"))
        async with database.session() as session:
            connection = await session.connection()
            level = (await connection.execute(text("SHOW transaction_isolation"))).scalar_one()

    assert level == before == "read committed"


async def test_a_mistake_in_sql_is_nobody_elses_error(database: Database) -> None:
    with pytest.raises(errors.SyntaxError):
        await database.rows(statement("SELEKT 1"), {})
    with pytest.raises(errors.UndefinedTable):
        await database.rows(statement("SELECT 1 FROM nowhere"), {})
    with pytest.raises(Exception, match="nowhere"):
        async with database.session() as session:
            await (await session.connection()).execute(text("SELECT 1 FROM nowhere"))

    assert await value_of(database, "SELECT 1 AS value") == 1


async def test_an_error_of_a_session_does_not_show_parameters(database: Database) -> None:
    with pytest.raises(Exception, match="nowhere") as failure:
        async with database.session() as session:
            await (await session.connection()).execute(text("SELECT :secret FROM nowhere"), {"secret": "hunter2"})

    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", Unavailable),
        ("25006", Unavailable),
        ("28P01", Unavailable),
        ("3D000", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("53300", Unavailable),
        ("53100", Unavailable),
        ("55P03", Unavailable),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("57P03", Unavailable),
        ("58030", Unavailable),
        ("22021", InvalidValue),
        ("22003", InvalidValue),
        ("23502", ConstraintViolated),
        ("23503", ForeignKeyViolated),
        ("23505", UniqueViolated),
        ("23514", ConstraintViolated),
    ],
)
def test_errors_are_told_apart_by_sqlstate(state: str, expected: type[Exception]) -> None:
    told = translate(errors.lookup(state)("hunter2"), nothing_happened=True)

    assert type(told) is expected
    assert "hunter2" not in str(told)


@pytest.mark.parametrize("state", ["42601", "42P01", "42501", "25P02", "0A000", "XX000"])
def test_an_unexpected_error_stays_what_it_is(state: str) -> None:
    error = errors.lookup(state)("surprise")

    assert translate(error, nothing_happened=False) is error


def test_an_error_without_a_code_is_judged_by_what_is_known_of_it() -> None:
    programming = psycopg.ProgrammingError("the query has 1 placeholder but 0 parameters were passed")

    lost = psycopg.OperationalError("consuming input failed: hunter2")
    nul = psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")

    assert type(translate(lost, nothing_happened=True)) is Unavailable
    assert type(translate(lost, nothing_happened=False)) is OutcomeUnknown
    assert type(translate(nul, nothing_happened=True)) is InvalidValue
    assert translate(programming, nothing_happened=False) is programming


def test_waiting_can_help_for_every_kind_of_unavailable_and_for_no_other() -> None:
    assert issubclass(PoolTimeout, Unavailable)
    assert issubclass(DeadlineExceeded, Unavailable)
    assert issubclass(OutcomeUnknown, Unavailable)
    assert not issubclass(ConstraintViolated, Unavailable)
    assert Unavailable.retry_after > 0
    assert all(rule.becomes is Unavailable for rule in RULES.values() if rule.is_retried or rule.is_renewed)


async def test_no_connection_is_leaked_by_a_hundred_requests_of_every_outcome(dsn: Dsn, alice: UUID) -> None:
    outcomes = [
        statement("SELECT 1 AS value"),
        statement("SELECT 1 / 0 AS value"),
        statement("SELECT 1 FROM nowhere"),
        statement("SELECT pg_sleep(10) AS value"),
    ]
    async with open_database(dsn, DatabaseOptions(limits=PoolLimits(min_size=2, max_size=5))) as database:
        await asyncio.gather(
            *(database.rows(outcomes[number % 4], {}, 0.5) for number in range(100)), return_exceptions=True
        )

        assert database.pool.stats.in_use == 0
        assert database.pool.stats.waiting == 0
        assert database.pool.stats.size <= 5
        assert await value_of(database, "SELECT 1 AS value") == 1


async def test_leaving_by_an_error_closes_every_connection(empty_dsn: Dsn, server: Dsn) -> None:
    with contextlib.suppress(ChangedMyMind):
        async with open_database(empty_dsn, TWO) as database:
            await value_of(database, "SELECT 1 AS value")
            raise ChangedMyMind

    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        for _ in range(500):
            if admin.execute(query, [empty_dsn.database]).fetchone() == (0,):
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("connections stayed open")


async def test_opening_fails_with_what_the_server_said(dsn: Dsn) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        async with open_database(dsn.with_database("nowhere")):
            pytest.fail("it opened")


async def test_what_was_cut_off_does_not_go_on_in_the_server_beyond_the_pools_limit(
    server: Dsn, empty_dsn: Dsn
) -> None:
    # A long lock would otherwise gather one waiting backend for each request, until the server takes nobody any more.
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'todo'"
    with psycopg.connect(empty_dsn.conninfo) as holder, psycopg.connect(server.conninfo, autocommit=True) as admin:
        holder.execute("SELECT pg_advisory_lock(7)")
        async with open_database(empty_dsn, TWO) as database:
            for _ in range(6):
                with pytest.raises(DeadlineExceeded):
                    await database.rows(statement("SELECT pg_advisory_lock(7) AS value"), {}, 0.1)
            for _ in range(500):
                row = admin.execute(count, [empty_dsn.database]).fetchone()
                if row and row[0] <= 2:
                    break
                await asyncio.sleep(0.01)
            else:
                pytest.fail(f"{row} connections are still waiting for the lock")
