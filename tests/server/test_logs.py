"""The log: its form, and that it holds neither values of a row nor a password."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func
from sqlmodel import select

from config import logs
from config.logs import CountingHandler, WithRequest
from persistence import startup
from persistence.models import Task
from persistence.postgres import costs
from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from persistence.postgres.options import DatabaseOptions
from server.log_format import JsonFormatter, SafeFormatter
from tests.support.databases import as_owner
from tests.support.processes import clean_environment
from tests.support.servers import LONG, ROOT, PostgresServer, eventually
from tests.support.sites import production
from web.observation import Observation

SECRET = "a-value-of-a-row"
FORM = SafeFormatter("%(levelname)s %(name)s [%(request_id)s] %(message)s", defaults={"request_id": "-"})


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """The records of all loggers and levels, in the form of the console."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(FORM)
    handler.addFilter(WithRequest())
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


def violation(dsn: Dsn) -> psycopg.Error:
    with psycopg.connect(as_owner(dsn).conninfo) as connection, pytest.raises(psycopg.errors.CheckViolation) as refusal:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [uuid4(), SECRET])
    assert SECRET in str(refusal.value), "PostgreSQL shows the row, so that this proves something"
    return refusal.value


def test_a_database_error_is_logged_by_its_code_without_the_values_of_the_row(dsn: Dsn) -> None:
    text = log_of(violation(dsn))

    assert "CheckViolation: SQLSTATE 23514" in text
    assert "test_logs.py" in text
    assert SECRET not in text


def test_so_is_the_cause_of_another_error(dsn: Dsn) -> None:
    error = RuntimeError("The outer one")
    error.__cause__ = violation(dsn)

    text = log_of(error)

    assert "RuntimeError: The outer one" in text
    assert "SQLSTATE 23514" in text
    assert SECRET not in text


async def test_an_error_of_a_session_is_logged_without_its_values(database: Database) -> None:
    async def write() -> None:
        async with database.session() as session:
            session.add(Task(user_id=uuid4(), title=SECRET, description=f" {SECRET} "))

    async def call() -> None:
        async with database.session() as session:
            await session.exec(select(func.no_such_function(SECRET)))

    for use in (write, call):
        with logged() as text:
            with pytest.raises(Exception) as failure:
                await use()
            logging.getLogger("tests").error("It failed", exc_info=failure.value)
        assert "It failed" in text.getvalue()
        assert SECRET not in text.getvalue()


def test_errors_of_the_program_keep_their_text_and_those_that_quote_a_value_do_not() -> None:
    assert "RuntimeError: what happened" in log_of(RuntimeError("what happened"))
    for error in (KeyError(SECRET), ValueError(SECRET), UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET)):
        text = log_of(error)
        assert type(error).__name__ in text
        assert SECRET not in text


def test_a_line_carries_the_request_id() -> None:
    token = costs.current.set(Observation("GET", "abc-123"))
    try:
        with logged() as text:
            logging.getLogger("tests").warning("Hello")
    finally:
        costs.current.reset(token)

    assert text.getvalue() == "WARNING tests [abc-123] Hello\n"


def test_a_line_with_bytes_that_are_not_text_has_the_form_of_all_others() -> None:
    record = logging.LogRecord("tests", logging.WARNING, "", 0, "No file %s", ("\udcff",), None)

    line = json.loads(JsonFormatter().format(record))

    assert line["message"] == r"No file \udcff"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["time"])


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[tuple[CountingHandler, io.StringIO]]:
    """The console's handler, with periods of so many seconds."""
    monkeypatch.setattr(logs, "COUNTED_SECONDS", seconds)
    handler = CountingHandler()
    handler.setStream(text := io.StringIO())
    handler.setFormatter(FORM)
    handler.addFilter(WithRequest())
    logger = logging.getLogger("tests")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler, text
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_what_repeats_is_one_line_and_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("tests")
    with counted(monkeypatch, 3600) as (handler, text):
        for number in range(1000):
            log.warning("Answering %d", 503)
            log.warning("Number %d", number // 500)
        handler.write_counts()
        log.warning("Answering %d", 503)
        handler.write_counts()
        log.warning("Number %d", 1)
        handler.write_counts(goes_on=False)
        log.warning("Number %d", 1)

    lines = [
        "Answering 503", "Number 0", "Number 1",
        "Answering 503 (999 more of these)", "Number 0 (499 more of these)", "Number 1 (499 more of these)",
        "Answering 503 (1 more of these)", "Number 1", "Number 1",
    ]  # fmt: skip
    assert text.getvalue().splitlines() == [f"WARNING tests [-] {line}" for line in lines]


def test_the_count_comes_by_itself_when_nothing_more_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch, 0.1) as (_, text):
        for _number in range(3):
            logging.getLogger("tests").warning("Again")
        eventually(lambda: "(2 more of these)" in text.getvalue())


def test_a_process_that_ends_has_written_its_counts(tmp_path: Path) -> None:
    code = (
        "import logging, django; django.setup()\n"
        "for number in range(3): logging.getLogger('config').warning('Again')\n"
        "import atexit; atexit.register(logging.getLogger('config').warning, 'Again')"
    )
    variables = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": "postgresql://localhost/todo"}
    settings = {"DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=clean_environment() | variables | settings,
        capture_output=True, text=True, timeout=LONG, check=True,
    )  # fmt: skip

    assert [line.partition("] ")[2] for line in process.stderr.splitlines()] == ["Again", "Again (3 more of these)"]


def test_a_message_that_cannot_be_formatted_does_not_fail_what_logs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counted(monkeypatch, 3600) as (handler, text):
        # Not by a logger, as pytest's own handler would raise.
        handler.handle(logging.makeLogRecord({"levelno": logging.WARNING, "msg": "%d of %d", "args": (1,)}))
        logging.getLogger("tests").warning("The next one")

    assert "Message: '%d of %d'" in capsys.readouterr().err
    assert text.getvalue().endswith("The next one\n")


def test_statements_and_tracebacks_are_never_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch, 3600) as (_, text):
        for _number in range(3):
            logging.getLogger("tests").debug("SELECT 1")
            logging.getLogger("tests").error("It failed", exc_info=RuntimeError("what happened"))

    assert text.getvalue().count("SELECT 1") == 3
    assert text.getvalue().count("RuntimeError: what happened") == 3


def test_an_outage_is_a_few_lines_for_all_requests(postgres: PostgresServer, tmp_path: Path) -> None:
    with production(postgres.dsn, tmp_path, "--workers", "1", DATABASE_URL=postgres.url) as web:
        postgres.stop()
        for _ in range(200):
            assert web.http.get("/v1/health").status_code == 503
            assert web.http.get(f"/{uuid4()}/tasks").status_code == 503
        assert web.stop() == 0

    assert 0 < sum("Answering 503" in line or "Unhealthy" in line for line in web.log.splitlines()) < 100
    counts = re.findall(r"(?:Answering 503|Unhealthy).* \((\d+) more of these\)", web.log)
    assert sum(map(int, counts)) > 300


async def test_a_password_is_in_no_log(postgres: PostgresServer) -> None:
    dsn = Dsn.parse(postgres.url_of("postgres", SECRET))
    options = DatabaseOptions(log_sql=True, connect_timeout=2)
    with logged() as text:
        async with startup.start(dsn, options, retry=False, migrate_at=dsn) as database:
            postgres.stop()
            with pytest.raises(Unavailable):
                async with database.connection() as connection:
                    await connection.execute("SELECT 1")
        with pytest.raises(startup.StartupError) as failure:
            async with startup.start(dsn, options, retry=False, migrate_at=dsn):
                pass
        logging.getLogger("tests").critical("%s", failure.value)

    assert "postgres@127.0.0.1" in text.getvalue()
    assert SECRET not in text.getvalue()
