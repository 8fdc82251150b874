"""What is logged: every statement in development, errors only in production, and never what a row or a URL holds."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func
from sqlmodel import select

from config.logs import Formatter, WithRequestId, request_id
from persistence import migrator, users
from persistence.models import Task, User
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.support.servers import PostgresServer, WebServer, eventually, url_of

SECRET = "a-value-of-a-row"


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What the console would show of everything, in the format of the console."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Formatter("%(levelname)s %(name)s [%(request_id)s] %(message)s"))
    handler.addFilter(WithRequestId())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def log_of(error: BaseException) -> str:
    with logged() as text:
        logging.getLogger("tests").error("It failed", exc_info=error)
    return text.getvalue()


def test_a_database_error_is_logged_by_its_code_without_the_values_of_the_row(dsn: Dsn) -> None:
    with psycopg.connect(dsn.conninfo) as connection, pytest.raises(psycopg.errors.CheckViolation) as violation:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [uuid4(), SECRET])
    assert SECRET in str(violation.value), "PostgreSQL shows the row, so this proves something"

    text = log_of(violation.value)

    assert "CheckViolation: SQLSTATE 23514" in text
    assert "test_logs.py" in text
    assert SECRET not in text


def test_neither_does_an_error_that_was_caused_by_one(dsn: Dsn) -> None:
    def fail() -> None:
        with psycopg.connect(dsn.conninfo) as connection:
            try:
                connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [uuid4(), SECRET])
            except psycopg.Error as error:
                raise RuntimeError("The outer one") from error

    with pytest.raises(RuntimeError) as failure:
        fail()
    text = log_of(failure.value)

    assert "RuntimeError: The outer one" in text
    assert "SQLSTATE 23514" in text
    assert SECRET not in text


async def test_neither_does_an_error_of_a_session(database: Database) -> None:
    with logged() as text:
        try:
            async with database.session() as session:
                session.add(Task(user_id=uuid4(), title=SECRET, description=f" {SECRET} "))
        except Exception:
            logging.getLogger("tests").exception("It failed")

    assert "It failed" in text.getvalue()
    assert SECRET not in text.getvalue()


async def test_neither_does_an_error_of_sqlalchemy_itself(database: Database) -> None:
    async def fail() -> None:
        async with database.session() as session:
            await session.exec(select(func.no_such_function(SECRET)))

    with pytest.raises(psycopg.Error) as failure:
        await fail()
    assert log_of(failure.value)
    assert SECRET not in log_of(failure.value)


def test_other_errors_keep_their_text() -> None:
    assert "ValueError: what happened" in log_of(ValueError("what happened"))


def test_a_line_carries_the_request_id() -> None:
    token = request_id.set("abc-123")
    try:
        with logged() as text:
            logging.getLogger("tests").warning("Hello")
    finally:
        request_id.reset(token)

    assert text.getvalue() == "WARNING tests [abc-123] Hello\n"


@pytest.mark.parametrize("log_sql", [True, False])
async def test_each_statement_is_logged_once_without_its_values_when_asked_for(log_sql: bool, dsn: Dsn) -> None:
    async with open_database(dsn, DatabaseOptions(log_sql=log_sql)) as database:
        with logged() as text:
            await users.create(database, f"{SECRET}-{uuid4()}@example.com")
            async with database.session() as session:
                await session.exec(select(User).where(User.email == SECRET))

    statements = [line for line in text.getvalue().splitlines() if " persistence.sql " in line]
    assert sum("INSERT INTO users" in line for line in statements) == log_sql
    assert sum("FROM users" in line for line in statements) == log_sql
    assert all(line.startswith("DEBUG ") for line in statements)
    assert SECRET not in text.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "is_logged"), [("development", True), ("production", False)])
def test_the_server_logs_statements_in_development_only(
    environment: str, is_logged: bool, empty_dsn: Dsn, tmp_path: Path
) -> None:
    migrator.migrate(empty_dsn)
    settings = {"ENVIRONMENT": environment, "DATABASE_URL": url_of(empty_dsn), "DATABASE_POOL_MIN": "1"}
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as connection:
        user_id = uuid4()
        connection.execute("INSERT INTO users (id, email) VALUES (%s, 'a@example.com')", [user_id])
        with WebServer(tmp_path, settings, "--workers", "1") as web:
            assert web.http.post(f"/{user_id}/tasks", json={"title": SECRET}).status_code == 201
            refused = web.http.post(f"/{user_id}/tasks", json={"title": SECRET * 20})
            connection.execute("ALTER TABLE tasks ADD CONSTRAINT surprise CHECK (title = 'no')  NOT VALID")
            broken = web.http.post(f"/{user_id}/tasks", json={"title": SECRET})
            connection.execute("ALTER TABLE tasks RENAME COLUMN title TO heading")
            failed = web.http.post(f"/{user_id}/tasks", json={"title": SECRET})

    assert [refused.status_code, broken.status_code, failed.status_code] == [400, 400, 500]
    assert ("DEBUG persistence.sql" in web.log) is is_logged
    assert ("INSERT INTO tasks" in web.log) is is_logged
    # The failure that nobody expected is logged with its code, its place and the id that the client got.
    assert "ERROR web.problems" in web.log
    assert "SQLSTATE 42703" in web.log
    assert failed.headers["X-Request-ID"] in web.log
    assert SECRET not in web.log


def test_a_password_is_in_no_log(postgres: PostgresServer, tmp_path: Path) -> None:
    with psycopg.connect(postgres.dsn.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE app SUPERUSER LOGIN PASSWORD '{SECRET}'")
        (postgres.folder / "data" / "pg_hba.conf").write_text(
            "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n"
        )
        connection.execute("SELECT pg_reload_conf()")
    settings = {
        "ENVIRONMENT": "development",
        "DATABASE_URL": postgres.url_of("app", SECRET),
        "LOG_LEVEL": "DEBUG",
        "REQUEST_TIMEOUT": "2",
    }
    with WebServer(tmp_path, settings) as web:
        postgres.stop()
        assert web.http.get("/v1/health").status_code == 503
        assert web.http.get(f"/{uuid4()}/tasks").status_code == 503
        postgres.start()
        eventually(lambda: web.http.get("/v1/health").status_code == 200)

    assert "app@127.0.0.1" in web.log
    assert SECRET not in web.log
