"""What the database refuses by itself, whoever writes to it and whatever they forgot to check (D1-D9, D29)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql

from persistence.postgres.dsn import Dsn

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def connection(dsn: Dsn) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn.conninfo) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def owner(connection: psycopg.Connection) -> UUID:
    return insert(connection, "users", email=f"{uuid4()}@example.com")


def insert(connection: psycopg.Connection, table: str, **values: Any) -> UUID:
    """The id of a new row; psycopg sends text untyped, so enums, times and arrays are read as in plain SQL."""
    values = {"id": uuid4()} | values
    query = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Placeholder, values)),
    )
    row = connection.execute(query, values).fetchone()
    assert row
    new_id: UUID = row[0]
    return new_id


def insert_task(connection: psycopg.Connection, owner: UUID, **values: Any) -> UUID:
    return insert(connection, "tasks", **{"user_id": owner, "title": "Buy milk"} | values)


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("title_length", {"title": ""}),
        ("title_length", {"title": "x" * 201}),
        ("title_trimmed", {"title": " "}),
        ("title_trimmed", {"title": " milk"}),
        ("title_trimmed", {"title": "milk "}),
        ("title_trimmed", {"title": "\tmilk"}),
        ("title_trimmed", {"title": "milk\n"}),
        ("description_length", {"description": "x" * 1001}),
        ("completed_at_says_when", {"status": "completed"}),
        ("completed_at_says_when", {"status": "pending", "completed_at": NOW}),
        ("completed_at_says_when", {"completed_at": NOW}),
        ("due_date_range", {"due_date": "infinity"}),
        ("due_date_range", {"due_date": "-infinity"}),
        ("due_date_range", {"due_date": "0001-12-31 00:00Z BC"}),
        ("due_date_range", {"due_date": "10000-01-01 00:00Z"}),
        ("tags_count", {"tags": [f"tag{number}" for number in range(21)]}),
        ("tags_valid", {"tags": [""]}),
        ("tags_valid", {"tags": ["x" * 11]}),
        ("tags_valid", {"tags": ["Work"]}),
        ("tags_valid", {"tags": [" work"]}),
        ("tags_valid", {"tags": ["work "]}),
        ("tags_valid", {"tags": ["work\t"]}),
        ("tags_valid", {"tags": [" "]}),
        ("tags_valid", {"tags": ["home", "work", "home"]}),
        ("tags_valid", {"tags": [None]}),
        ("tags_valid", {"tags": ["work", None]}),
        ("tags_valid", {"tags": [["home", "work"], ["one", "two"]]}),
    ],
)
def test_it_refuses_a_task_that_breaks_a_rule(
    connection: psycopg.Connection, owner: UUID, constraint: str, values: dict[str, Any]
) -> None:
    with pytest.raises(errors.CheckViolation) as refusal:
        insert_task(connection, owner, **values)

    assert refusal.value.diag.constraint_name == f"ck_tasks_{constraint}"


@pytest.mark.parametrize(
    "change",
    [
        "title = title || ' '",
        "description = repeat('x', 1001)",
        "status = 'completed'",
        "completed_at = now()",
        "due_date = 'infinity'",
        "tags = tags || '{work,work}'::text[]",
        "tags = array_append(tags, NULL)",
    ],
    ids=lambda change: change.partition(" ")[0],
)
def test_it_refuses_a_change_that_breaks_a_rule(connection: psycopg.Connection, owner: UUID, change: str) -> None:
    task = insert_task(connection, owner)

    with pytest.raises(errors.CheckViolation):
        connection.execute(f"UPDATE tasks SET {change} WHERE id = %s".encode(), [task])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"status": "done"}, errors.InvalidTextRepresentation),
        ({"status": "COMPLETED", "completed_at": NOW}, errors.InvalidTextRepresentation),
        ({"priority": "urgent"}, errors.InvalidTextRepresentation),
        ({"priority": ""}, errors.InvalidTextRepresentation),
        ({"id": "7"}, errors.InvalidTextRepresentation),
        ({"user_id": ""}, errors.InvalidTextRepresentation),
        ({"due_date": "tomorrow-ish"}, errors.InvalidDatetimeFormat),
        ({"due_date": "2026-02-30 00:00Z"}, errors.DatetimeFieldOverflow),
        ({"title": "milk\0"}, psycopg.DataError),
    ],
)
def test_it_refuses_a_value_that_the_type_does_not_have(
    connection: psycopg.Connection, owner: UUID, values: dict[str, Any], error: type[psycopg.Error]
) -> None:
    with pytest.raises(error):
        insert_task(connection, owner, **values)


@pytest.mark.parametrize("column", ["id", "user_id", "title", "status", "priority", "tags", "created_at", "updated_at"])
def test_it_refuses_a_task_without(connection: psycopg.Connection, owner: UUID, column: str) -> None:
    with pytest.raises(errors.NotNullViolation) as refusal:
        insert_task(connection, owner, **{column: None})

    assert refusal.value.diag.column_name == column


@pytest.mark.parametrize(
    "column", ["id", "email", "password_hash", "is_active", "email_verified", "created_at", "updated_at"]
)
def test_it_refuses_a_user_without(connection: psycopg.Connection, column: str) -> None:
    with pytest.raises(errors.NotNullViolation) as refusal:
        insert(connection, "users", **{"email": f"{uuid4()}@example.com", column: None})

    assert refusal.value.diag.column_name == column


@pytest.mark.parametrize(
    "values",
    [
        {"title": "x"},
        {"title": "x" * 200},
        {"title": "日" * 200},
        {"title": "two words"},
        {"title": "two\nlines"},
        {"description": None},
        {"description": ""},
        {"description": "x" * 1000},
        {"description": " as it was typed \n"},
        {"status": "completed", "completed_at": NOW},
        {"priority": "low"},
        {"priority": "high"},
        {"due_date": None},
        {"due_date": "2001-01-01 00:00Z"},
        {"due_date": "0001-01-01 00:00Z"},
        {"due_date": "9999-12-31 23:59:59.999999Z"},
        {"tags": []},
        {"tags": [f"tag{number}" for number in range(20)]},
        {"tags": ["x" * 10, "y"]},
        {"tags": ["日" * 10]},
        {"tags": ["to do"]},
    ],
)
def test_it_takes_a_task_at_the_edge_of_the_rules(
    connection: psycopg.Connection, owner: UUID, values: dict[str, Any]
) -> None:
    insert_task(connection, owner, **values)


def test_it_counts_characters_and_not_bytes(connection: psycopg.Connection, owner: UUID) -> None:
    insert_task(connection, owner, title="é" * 200, description="😀" * 1000, tags=["ß" * 10])

    with pytest.raises(errors.CheckViolation):
        insert_task(connection, owner, title="é" * 201)


def test_it_fills_in_what_a_new_task_does_not_say(connection: psycopg.Connection, owner: UUID) -> None:
    task = insert_task(connection, owner)

    row = connection.execute(
        "SELECT status, priority, tags, description, due_date, completed_at, created_at = now(), updated_at = now()"
        " FROM tasks WHERE id = %s",
        [task],
    ).fetchone()

    assert row == ("pending", "medium", [], None, None, None, True, True)


def test_it_fills_in_what_a_new_user_does_not_say(connection: psycopg.Connection, owner: UUID) -> None:
    row = connection.execute(
        "SELECT password_hash, name, is_active, email_verified, created_at = now(), updated_at = now()"
        " FROM users WHERE id = %s",
        [owner],
    ).fetchone()

    assert row == ("!", None, True, False, True, True)


@pytest.mark.parametrize(
    ("constraint", "email"),
    [
        ("email_lower_case", "Alice@example.com"),
        ("email_lower_case", "alice@EXAMPLE.com"),
        ("email_form", ""),
        ("email_form", "alice"),
        ("email_form", "@example.com"),
        ("email_form", "alice@"),
        ("email_form", "alice@home@example.com"),
        ("email_form", "alice smith@example.com"),
        ("email_form", " alice@example.com"),
        ("email_form", "alice@example.com\n"),
        ("email_length", f"{'a' * 243}@example.com"),
    ],
)
def test_it_refuses_an_email_that_breaks_a_rule(connection: psycopg.Connection, constraint: str, email: str) -> None:
    with pytest.raises(errors.CheckViolation) as refusal:
        insert(connection, "users", email=email)

    assert refusal.value.diag.constraint_name == f"ck_users_{constraint}"


def test_it_takes_an_email_of_the_greatest_length(connection: psycopg.Connection) -> None:
    unique = uuid4().hex

    insert(connection, "users", email=f"{unique}{'a' * (242 - len(unique))}@example.com")


def test_it_refuses_an_empty_password_hash(connection: psycopg.Connection) -> None:
    with pytest.raises(errors.CheckViolation) as refusal:
        insert(connection, "users", email=f"{uuid4()}@example.com", password_hash="")

    assert refusal.value.diag.constraint_name == "ck_users_password_hash_not_empty"


def test_it_refuses_a_second_user_with_the_same_email(connection: psycopg.Connection) -> None:
    email = f"{uuid4()}@example.com"
    insert(connection, "users", email=email)

    with pytest.raises(errors.UniqueViolation) as refusal:
        insert(connection, "users", email=email)

    assert refusal.value.diag.constraint_name == "uq_users_email"


@pytest.mark.parametrize("table", ["users", "tasks"])
def test_it_refuses_an_id_that_exists(connection: psycopg.Connection, owner: UUID, table: str) -> None:
    row: dict[str, Any] = {"id": uuid4()}
    row |= {"email": f"{uuid4()}@example.com"} if table == "users" else {"user_id": owner, "title": "Buy milk"}
    insert(connection, table, **row)
    if table == "users":
        row["email"] = f"{uuid4()}@example.com"

    with pytest.raises(errors.UniqueViolation) as refusal:
        insert(connection, table, **row)

    assert refusal.value.diag.constraint_name == f"pk_{table}"


def test_it_refuses_a_task_of_nobody(connection: psycopg.Connection) -> None:
    with pytest.raises(errors.ForeignKeyViolation) as refusal:
        insert_task(connection, uuid4())

    assert refusal.value.diag.constraint_name == "fk_tasks_user_id_users"


def test_it_takes_the_same_title_twice_from_one_user(connection: psycopg.Connection, owner: UUID) -> None:
    assert insert_task(connection, owner) != insert_task(connection, owner)


def test_it_deletes_the_tasks_of_a_deleted_user_and_nobody_elses(connection: psycopg.Connection, owner: UUID) -> None:
    other = insert(connection, "users", email=f"{uuid4()}@example.com")
    for _ in range(3):
        insert_task(connection, owner)
    kept = insert_task(connection, other)

    connection.execute("DELETE FROM users WHERE id = %s", [owner])

    left = connection.execute("SELECT id FROM tasks WHERE user_id = ANY(%s)", [[owner, other]]).fetchall()
    assert left == [(kept,)]


def test_it_keeps_a_moment_whatever_offset_it_was_given_in(connection: psycopg.Connection, owner: UUID) -> None:
    task = insert_task(connection, owner, due_date="2026-07-01 01:30+05:30")

    connection.execute("SET TIME ZONE 'UTC'")
    row = connection.execute("SELECT due_date FROM tasks WHERE id = %s", [task]).fetchone()

    assert row == (datetime(2026, 6, 30, 20, tzinfo=UTC),)


def test_it_sorts_priorities_by_urgency(connection: psycopg.Connection, owner: UUID) -> None:
    for priority in ("medium", "high", "low"):
        insert_task(connection, owner, priority=priority)

    rows = connection.execute("SELECT priority FROM tasks WHERE user_id = %s ORDER BY priority", [owner]).fetchall()

    assert rows == [("low",), ("medium",), ("high",)]
