"""The failures of a database: the reason that a caller gets for each, and what it may do about it."""

import asyncio

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text

from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import (
    IN_DOUBT,
    RULES,
    ConstraintViolated,
    DeadlineExceeded,
    ForeignKeyViolated,
    InvalidValue,
    OutcomeUnknown,
    PoolTimeout,
    SchemaMismatch,
    Unavailable,
    UniqueViolated,
    rule_for,
    translate,
)
from tests.database.helpers import FOREVER, SLEEP, Admin, options, pid_of, statement

TO_THE_OWNER = "fk_tasks_user_id_owner_is_erased_users"


async def failures(database: Database, query: str, **values: object) -> list[BaseException]:
    """The errors of the same statement alone and in a session."""
    with pytest.raises(Exception) as alone:
        await database.rows(statement(query), values)
    with pytest.raises(Exception) as in_session:
        async with database.session() as session:
            await (await session.connection()).execute(text(query), values)
    return [alone.value, in_session.value]


@pytest.mark.parametrize(
    ("change", "error", "constraint"),
    [
        ("INSERT INTO users (id) SELECT id FROM users", UniqueViolated, "pk_users"),
        (
            "INSERT INTO tasks (id, user_id, title) SELECT id, gen_random_uuid(), 'x' FROM tasks",
            ForeignKeyViolated,
            TO_THE_OWNER,
        ),
        ("UPDATE tasks SET description = repeat('x', 1001)", ConstraintViolated, "ck_tasks_description_length"),
        ("UPDATE tasks SET priority = NULL", ConstraintViolated, "priority"),
    ],
)
async def test_a_refused_value_names_the_rule(
    migrated_dsn: Dsn, admin: Admin, change: str, error: type[ConstraintViolated], constraint: str
) -> None:
    admin.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'alice@example.com')")
    admin.execute("INSERT INTO tasks (id, user_id, title) SELECT id, id, 'Buy milk' FROM users")
    async with open_database(migrated_dsn, options()) as database:
        for refusal in await failures(database, change):
            assert type(refusal) is error
            assert refusal.constraint == constraint
            assert isinstance(refusal.__cause__, errors.IntegrityError)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("CAST(:value AS text)", "nul\0"), ("CAST(:value AS text)", "\ud800"), ("CAST(:value AS integer)", 2**40),
        ("CAST(:value AS timestamptz)", "2026-02-30"), ("CAST(:value AS task_status)", "done"),
        ("CAST(:value AS uuid)", "7"), ("1 / CAST(:value AS integer)", 0),
    ],
)  # fmt: skip
async def test_a_value_that_cannot_be_stored_is_told_from_a_failure(
    database: Database, expression: str, value: object
) -> None:
    alone, in_session = await failures(database, f"SELECT {expression} AS value", value=value)
    assert type(alone) is InvalidValue
    # A session leaves Python's own error as it is.
    assert type(in_session) is (UnicodeEncodeError if value == "\ud800" else InvalidValue)


async def test_a_mistake_in_sql_stays_what_it_is_and_shows_no_parameter(database: Database) -> None:
    for failure in await failures(database, "SELEKT :value", value="hunter2"):
        assert type(failure) is errors.SyntaxError
        assert "hunter2" not in str(failure)
    assert await pid_of(database)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT :value FROM nowhere", "SELECT colour, :value AS value FROM tasks", "SELECT paint(:value)",
        "SELECT CAST(:value AS colour)", "UPDATE tasks SET due_date = CAST(:value AS text)",
        "INSERT INTO tasks SELECT FROM tasks ON CONFLICT (title) DO UPDATE SET title = :value",
    ],
)  # fmt: skip
async def test_a_schema_that_is_not_that_of_the_code_is_told_from_a_failure(database: Database, query: str) -> None:
    for failure in await failures(database, query, value="hunter2"):
        assert type(failure) is SchemaMismatch
        assert "hunter2" not in str(failure)


async def test_a_statement_that_an_operator_cancels_is_unavailable(single: Database, admin: Admin) -> None:
    running = asyncio.create_task(single.rows(SLEEP, FOREVER))
    admin.execute("SELECT pg_cancel_backend(%s)", await admin.waiting())
    with pytest.raises(Unavailable) as failure:
        await running
    assert type(failure.value) is Unavailable
    assert single.pool.stats.in_use == 0


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (
            "08006 25006 25P04 28P01 3D000 40001 40P01 42501 53300 53100 55P03 57014 57P01 57P03 57P05 58030",
            Unavailable,
        ),
        ("42703 42704 42804 42883 42P01 42P10", SchemaMismatch),
        ("22021 22003", InvalidValue),
        ("23502 23514", ConstraintViolated),
        ("23503", ForeignKeyViolated),
        ("23505", UniqueViolated),
        # An unexpected error stays what it is.
        ("42601 25P02 0A000 XX000", None),
    ],
)
def test_errors_are_told_apart_by_sqlstate(states: str, expected: type[Exception] | None) -> None:
    for state in states.split():
        error = errors.lookup(state)("hunter2")
        translated = translate(error, nothing_happened=True)
        assert type(translated) is (expected or type(error)), state
        assert expected is None or "hunter2" not in str(translated)


UNEXPECTED = {
    "0A": "of our own statements, or of a cached plan, which is run anew",
    "09 20 27 2F 38 39 44 P0": "of functions, triggers and views that somebody else has added",
    "0B 25 2D 3B": "of transactions that are used wrongly",
    "0L 0P 2B F0": "of commands for administrators",
    "02 03 0F 0Z 10 21 24 26 34 42": "of SQL that is not ours, or wrong",
    "3F": "of a schema that is missing, like a table",
    "54": "of limits that no value within ours can reach",
    "72": "of an option that PostgreSQL 17 has taken out",
    "HV": "of foreign tables, of which there are none",
    "XX": "of damage, and of mistakes of PostgreSQL",
}
"""Classes of SQLSTATEs without a rule, and what they are about: whoever reads the log should see all of it."""


def test_every_sqlstate_of_postgresql_has_a_rule_or_a_reason_to_be_unexpected() -> None:
    """Psycopg has a class for each of PostgreSQL's appendix of error codes."""
    states = {state for kind in vars(errors).values() if isinstance(state := getattr(kind, "sqlstate", None), str)}
    reasons = {word: reason for words, reason in UNEXPECTED.items() for word in words.split()}
    without_rule = {state for state in states if rule_for(errors.lookup(state)()) is None}
    assert len(states) > 250
    assert {state[:2] for state in without_rule} == set(reasons)
    assert {state for state in states if state.startswith(IN_DOUBT)} & without_rule == set()


def test_an_error_without_a_code_is_judged_by_its_kind() -> None:
    lost = psycopg.OperationalError("consuming input failed: hunter2")
    nul = psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    misuse = psycopg.ProgrammingError("the query has 1 placeholder but 0 parameters were passed")
    assert type(translate(lost, nothing_happened=True)) is Unavailable
    assert type(translate(lost, nothing_happened=False)) is OutcomeUnknown
    assert type(translate(nul, nothing_happened=True)) is InvalidValue
    assert translate(misuse, nothing_happened=False) is misuse


def test_every_error_that_can_pass_says_when_to_try_again() -> None:
    assert all(issubclass(error, Unavailable) for error in (PoolTimeout, DeadlineExceeded, OutcomeUnknown))
    assert Unavailable.retry_after > 0
    assert all(rule.becomes is Unavailable for rule in RULES.values() if rule.is_retried or rule.is_renewed)
