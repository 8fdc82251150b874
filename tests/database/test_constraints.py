"""The rules that PostgreSQL enforces by itself, whatever the code that writes has forgotten to check (D1-D9, D29)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql

from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import ConstraintViolated, translate
from tests.support.databases import as_owner
from tests.support.nodes import IS_SPREAD

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def connection(dsn: Dsn) -> Iterator[psycopg.Connection]:
    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        # One transaction for all of a test; the insert that is refused is taken back alone.
        connection.execute("SELECT 1")
        yield connection
        connection.rollback()


@pytest.fixture
def owner(connection: psycopg.Connection) -> UUID:
    return insert_user(connection)


def insert(connection: psycopg.Connection, table: str, **values: Any) -> UUID:
    """The id of a new row; psycopg sends text untyped, so enums, times and arrays are read as in plain SQL."""
    values = {"id": uuid4()} | values
    query = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Placeholder, values)),
    )
    with connection.transaction():
        row = connection.execute(query, values).fetchone()
    assert row
    new_id: UUID = row[0]
    return new_id


def insert_user(connection: psycopg.Connection, **values: Any) -> UUID:
    return insert(connection, "users", **{"email": f"{uuid4()}@example.com"} | values)


def insert_task(connection: psycopg.Connection, owner: UUID, **values: Any) -> UUID:
    return insert(connection, "tasks", **{"user_id": owner, "title": "Buy milk"} | values)


def broken(error: psycopg.Error) -> str:
    """The name of the rule, or of the column that may not be null. Citus has it in the message only."""
    if not IS_SPREAD:
        return error.diag.constraint_name or error.diag.column_name or ""
    violation = translate(error, nothing_happened=True)
    assert isinstance(violation, ConstraintViolated)
    return violation.constraint


@pytest.mark.parametrize(
    ("constraint", "column", "values"),
    [
        ("title_length", "title", ["", "x" * 201, "é" * 201]),
        ("title_trimmed", "title", [" ", " milk", "milk ", "\tmilk", "milk\n"]),
        ("description_length", "description", ["x" * 1001]),
        ("completed_at_says_when", "completed_at", [NOW]),
        ("completed_at_says_when", "status", ["completed"]),
        ("due_date_range", "due_date", ["infinity", "-infinity", "0001-12-31 00:00Z BC", "10000-01-01 00:00Z"]),
        ("tags_count", "tags", [[f"tag{number}" for number in range(21)]]),
        ("tags_valid", "tags", [[""], ["x" * 11], ["Work"], [" work"], ["work "], ["work\t"], [" "], [None]]),
        ("tags_valid", "tags", [["home", "work", "home"], ["work", None], [["home", "work"], ["one", "two"]]]),
    ],
)  # fmt: skip
def test_it_refuses_a_task_that_breaks_a_rule(
    connection: psycopg.Connection, owner: UUID, constraint: str, column: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(errors.CheckViolation) as refusal:
            insert_task(connection, owner, **{column: value})
        assert broken(refusal.value) == f"ck_tasks_{constraint}", value


@pytest.mark.parametrize("value", [{"status": "done"}, {"status": "COMPLETED"}, {"priority": "urgent"}, {"id": "7"}])
def test_it_refuses_a_value_that_the_type_does_not_have(
    connection: psycopg.Connection, owner: UUID, value: dict[str, str]
) -> None:
    with pytest.raises(errors.InvalidTextRepresentation):
        insert_task(connection, owner, **value)


def test_it_refuses_a_row_without_a_value_that_it_needs(connection: psycopg.Connection, owner: UUID) -> None:
    for column in ["id", "title", "status", "priority", "tags", "created_at", "updated_at", "version"]:
        with pytest.raises(errors.NotNullViolation) as refusal:
            insert_task(connection, owner, **{column: None})
        assert broken(refusal.value) == column
    for column in ["password_hash", "is_active", "email_verified", "is_erased", "created_at", "updated_at"]:
        with pytest.raises(errors.NotNullViolation) as refusal:
            insert_user(connection, **{column: None})
        assert broken(refusal.value) == column


def test_it_refuses_a_row_of_nobody(connection: psycopg.Connection, owner: UUID) -> None:
    for column, add in (("user_id", partial(insert_task, connection, owner)), ("id", partial(insert_user, connection))):
        # Citus needs it to find the shard.
        with pytest.raises(errors.NullValueNotAllowed if IS_SPREAD else errors.NotNullViolation) as refusal:
            add(**{column: None})
        assert IS_SPREAD or refusal.value.diag.column_name == column


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("title", ["x", "x" * 200, "日" * 200, "é" * 200, "two words", "two\nlines"]),
        ("description", [None, "", "x" * 1000, "😀" * 1000, " as it was typed \n"]),
        ("priority", ["low", "high"]),
        ("due_date", [None, "2001-01-01 00:00Z", "0001-01-01 00:00Z", "9999-12-31 23:59:59.999999Z"]),
        ("tags", [[], [f"tag{number}" for number in range(20)], ["x" * 10, "y"], ["日" * 10], ["ß" * 10], ["to do"]]),
    ],
)
def test_it_takes_a_task_at_the_edge_of_the_rules(
    connection: psycopg.Connection, owner: UUID, column: str, values: list[Any]
) -> None:
    # A title may be there twice.
    for value in (*values, *values):
        insert_task(connection, owner, **{column: value})


def test_it_fills_in_what_a_new_task_and_a_new_user_do_not_say(connection: psycopg.Connection, owner: UUID) -> None:
    insert_task(connection, owner)
    # Asked of no table, as each node of a spread database has a time of its own.
    [now] = connection.execute("SELECT now()").fetchone() or ()
    columns = "status, priority, tags, description, due_date, completed_at, created_at, updated_at"
    row = connection.execute(f"SELECT {columns} FROM tasks WHERE user_id = %s".encode(), [owner]).fetchone()
    assert row == ("pending", "medium", [], None, None, None, now, now)
    columns = "password_hash, name, is_active, email_verified, created_at, updated_at"
    row = connection.execute(f"SELECT {columns} FROM users WHERE id = %s".encode(), [owner]).fetchone()
    assert row == ("!", None, True, False, now, now)


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("email_lower_case", ["Alice@example.com", "alice@EXAMPLE.com"]),
        ("email_form", ["", "alice", "@example.com", "alice@", "alice@home@example.com", "alice smith@example.com"]),
        ("email_form", [" alice@example.com", "alice@example.com\n"]),
        ("email_length", [f"{'a' * 243}@example.com"]),
        ("password_hash_not_empty", [""]),
    ],
)
def test_it_refuses_a_user_that_breaks_a_rule(
    connection: psycopg.Connection, constraint: str, values: list[str]
) -> None:
    for value in values:
        with pytest.raises(errors.CheckViolation) as refusal:
            insert_user(connection, **{"password_hash" if constraint.startswith("password") else "email": value})
        assert broken(refusal.value) == f"ck_users_{constraint}", value


@pytest.mark.plain("has a rule that keeps addresses unique")
def test_an_email_of_the_greatest_length_is_taken_once(connection: psycopg.Connection) -> None:
    email = f"{uuid4().hex:a<242}@example.com"
    insert_user(connection, email=email)
    with pytest.raises(errors.UniqueViolation) as refusal:
        insert_user(connection, email=email)
    assert refusal.value.diag.constraint_name == "uq_users_email"


def test_it_refuses_an_id_that_exists_but_another_owner_may_have_it(
    connection: psycopg.Connection, owner: UUID
) -> None:
    task = insert_task(connection, owner)
    insert_task(connection, insert_user(connection), id=task)
    with pytest.raises(errors.UniqueViolation) as refusal:
        insert_task(connection, owner, id=task)
    assert broken(refusal.value) == "pk_tasks"
    with pytest.raises(errors.UniqueViolation) as refusal:
        insert_user(connection, id=owner)
    assert broken(refusal.value) == "pk_users"


def test_it_refuses_a_task_of_an_unknown_user(connection: psycopg.Connection) -> None:
    with pytest.raises(errors.ForeignKeyViolation) as refusal:
        insert_task(connection, uuid4())
    assert broken(refusal.value) == "fk_tasks_user_id_owner_is_erased_users"


def test_it_deletes_the_tasks_of_a_deleted_user_and_no_others(connection: psycopg.Connection, owner: UUID) -> None:
    other = insert_user(connection)
    kept = insert_task(connection, other)
    for _ in range(3):
        insert_task(connection, owner)
    connection.execute("DELETE FROM users WHERE id = %s", [owner])
    left = connection.execute("SELECT id FROM tasks WHERE user_id = ANY(%s)", [[owner, other]]).fetchall()
    assert left == [(kept,)]


def test_it_keeps_a_moment_whatever_its_offset_and_sorts_priorities_by_urgency(
    connection: psycopg.Connection, owner: UUID
) -> None:
    for priority in ("medium", "high", "low"):
        insert_task(connection, owner, priority=priority, due_date="2026-07-01 01:30+05:30")
    connection.execute("SET TIME ZONE 'UTC'")
    query = "SELECT priority, due_date FROM tasks WHERE user_id = %s ORDER BY priority"
    moment = datetime(2026, 6, 30, 20, tzinfo=UTC)
    assert connection.execute(query, [owner]).fetchall() == [("low", moment), ("medium", moment), ("high", moment)]
