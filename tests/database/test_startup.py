"""Coming up with the database: patient in production, at once or not at all in development (D11, D14)."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from itertools import pairwise
from time import monotonic
from typing import Any, override

import psycopg
import pytest
from psycopg import sql

from persistence import migrator, startup
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from persistence.postgres.options import DatabaseOptions, PoolLimits
from persistence.startup import StartupError, start
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, eventually

OPTIONS = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2))
PATIENT: dict[str, Any] = {"options": OPTIONS, "patient": True, "migrate": False}
IMPATIENT = PATIENT | {"patient": False}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(startup, "LONGEST_DELAY", 0.05)


@pytest.fixture
def refusing() -> Dsn:
    """An address where nobody listens."""
    return Dsn.parse(f"postgresql://alice:hunter2@127.0.0.1:{free_port()}/todo")


@pytest.fixture
def silent() -> Iterator[Dsn]:
    """An address where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Dsn.parse(f"postgresql://alice:hunter2@127.0.0.1:{listener.getsockname()[1]}/todo")


async def fail(dsn: Dsn, **choices: Any) -> str:
    with pytest.raises(StartupError) as failure:
        async with start(dsn, **choices):
            pytest.fail("it started")
    return str(failure.value)


def warnings(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in log.records if record.levelno >= logging.WARNING]


async def test_development_fails_at_once_and_says_what_to_do(refusing: Dsn, log: pytest.LogCaptureFixture) -> None:
    message = await fail(refusing, **IMPATIENT)

    assert message.startswith(f"No connection to the database {refusing}: ")
    assert "Connection refused" in message
    assert "No server listens there" in message
    assert "hunter2" not in message
    assert "\n" not in message
    assert warnings(log) == []


@pytest.mark.usefixtures("hurried")
async def test_production_retries_five_times_and_logs_each(refusing: Dsn, log: pytest.LogCaptureFixture) -> None:
    message = await fail(refusing, **PATIENT)

    assert "after 6 attempts" in message
    assert "No server listens there" in message
    assert [record.getMessage().partition(" failed")[0] for record in warnings(log)] == [
        f"Attempt {number} of 6 to reach the database" for number in range(1, 6)
    ]
    assert all("refused" in record.getMessage() for record in warnings(log))
    assert "hunter2" not in log.text + message


async def test_it_waits_twice_as_long_each_time_up_to_a_limit_with_jitter(
    refusing: Dsn, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(startup, "LONGEST_DELAY", 0.04)
    seen = []
    for _ in range(2):
        log.clear()
        await fail(refusing, **PATIENT)
        seen.append([record.args[2] for record in warnings(log) if isinstance(record.args, tuple)])

    for waits in seen:
        for wait, delay in zip(waits, (0.01, 0.02, 0.04, 0.04, 0.04), strict=True):
            assert isinstance(wait, float)
            assert delay * (1 - startup.JITTER) <= wait <= delay * (1 + startup.JITTER)
    assert seen[0] != seen[1]


def test_all_attempts_stay_within_thirty_seconds() -> None:
    delays = [min(startup.FIRST_DELAY * 2**retry, startup.LONGEST_DELAY) for retry in range(startup.RETRIES)]
    waiting = sum(delays) * (1 + startup.JITTER)
    attempts = (startup.RETRIES + 1) * startup.ATTEMPT_TIMEOUT

    assert startup.RETRIES == 5
    assert all(later >= earlier for earlier, later in pairwise(delays))
    assert delays[1] == 2 * delays[0]
    assert waiting + attempts < 30


@pytest.mark.usefixtures("hurried")
async def test_an_attempt_on_a_silent_server_is_given_up_in_time(
    silent: Dsn, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(startup, "ATTEMPT_TIMEOUT", 0.1)
    started = monotonic()
    message = await fail(silent, **PATIENT)

    assert monotonic() - started < 5
    assert "after 6 attempts: the connection timed out. Nothing answered in time" in message
    assert len(warnings(log)) == 5


@pytest.mark.usefixtures("hurried")
async def test_production_starts_when_the_database_comes_up_meanwhile(
    server: Dsn, empty_dsn: Dsn, log: pytest.LogCaptureFixture
) -> None:
    def allow(allowed: bool) -> None:
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            name = sql.Identifier(empty_dsn.database)
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, sql.Literal(allowed)))

    class OnSecondWarning(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("Attempt 2 of 6"):
                allow(allowed=True)

    migrator.migrate(empty_dsn)
    allow(allowed=False)
    handler = OnSecondWarning()
    startup.logger.addHandler(handler)
    try:
        async with start(empty_dsn, **PATIENT) as database:
            assert await migrator.applied_revision(database, 5) == migrator.head()
    finally:
        startup.logger.removeHandler(handler)

    assert len(warnings(log)) == 2
    assert f"Connected to the database {empty_dsn}." in log.messages


@pytest.mark.parametrize("patient", [True, False])
async def test_it_starts_within_two_seconds_without_a_warning_when_all_is_well(
    dsn: Dsn, log: pytest.LogCaptureFixture, patient: bool
) -> None:
    started = monotonic()
    async with start(dsn, **PATIENT | {"patient": patient}) as database:
        # S1-SC-001 allows two seconds.
        assert monotonic() - started < 2
        assert database.pool.stats.in_use == 0

    assert warnings(log) == []


async def test_it_warns_and_starts_all_the_same_when_the_schema_is_behind(
    empty_dsn: Dsn, log: pytest.LogCaptureFixture
) -> None:
    for revision in (None, "0001"):
        log.clear()
        if revision:
            migrator.migrate(empty_dsn, revision)
        async with start(empty_dsn, **PATIENT) as database:
            assert await migrator.applied_revision(database, 5) == revision
        assert [record.getMessage() for record in warnings(log)] == [
            "The database is behind the code; run `manage.py migrate_sql`."
        ]


async def test_it_starts_on_a_schema_that_newer_code_made(empty_dsn: Dsn, log: pytest.LogCaptureFixture) -> None:
    migrator.migrate(empty_dsn)
    with psycopg.connect(empty_dsn.conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")

    async with start(empty_dsn, **PATIENT):
        pass

    assert "behind" not in log.text


async def test_it_migrates_when_told_to_and_names_each_step(empty_dsn: Dsn, log: pytest.LogCaptureFixture) -> None:
    async with start(empty_dsn, **PATIENT | {"migrate": True}) as database:
        assert await migrator.applied_revision(database, 5) == migrator.head()

    assert warnings(log) == []
    for revision, description in migrator.revisions().items():
        assert f"Migrated to {revision} ({description})" in log.text


async def test_it_does_not_start_when_migrating_fails(empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrator, "TURN_TIMEOUT", "50ms")
    with migrator.locked_connection(empty_dsn):
        message = await fail(empty_dsn, **PATIENT | {"migrate": True})

    assert "cannot be migrated" in message
    assert "\n" not in message
    assert migrator.current(empty_dsn) is None


async def test_one_that_replaces_another_does_not_wait_long_for_its_migration(
    empty_dsn: Dsn, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "REPLACEMENT_TIMEOUT", 0.1)
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrator.TURN_KEY])
        async with start(empty_dsn, DatabaseOptions(), retry=True, migrate=True, is_replacement=True) as database:
            assert await migrator.applied_revision(database, 5) is None
            assert "serving meanwhile" in log.text
            other.execute("SELECT pg_advisory_unlock(%s)", [migrator.TURN_KEY])
            await asyncio.to_thread(eventually, lambda: migrator.current(empty_dsn) == migrator.head())


async def test_one_that_replaces_another_serves_what_it_can_until_the_database_is_back(
    postgres: PostgresServer, log: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(postgres.stop)
    async with start(postgres.dsn, DatabaseOptions(), retry=True, migrate=True, is_replacement=True) as database:
        assert len(warnings(log)) >= 1
        with pytest.raises(Unavailable):
            await migrator.applied_revision(database, 5)

        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(eventually, lambda: database.pool.stats.idle > 0)
        assert await migrator.applied_revision(database, 5) == migrator.head()


@pytest.fixture
def last_connection(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    """The only one that the server gives to the role `app`."""
    with psycopg.connect(postgres.dsn.conninfo, autocommit=True) as admin:
        admin.execute("CREATE ROLE app LOGIN CONNECTION LIMIT 1 IN ROLE pg_read_all_data")
    with psycopg.connect(Dsn.parse(postgres.url_of("app")).conninfo) as connection:
        yield connection


async def test_one_that_replaces_another_waits_for_a_connection_that_others_can_give_up(
    postgres: PostgresServer, last_connection: psycopg.Connection, log: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def give_up_when_asked_again() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            last_connection.close()

    app = Dsn.parse(postgres.url_of("app"))
    async with start(
        app, OPTIONS, retry=True, migrate=False, is_replacement=True, on_starved=give_up_when_asked_again
    ) as database:
        assert asked >= 3
        assert database.pool.stats.size >= 1
        assert "cannot be migrated" not in log.text


@pytest.mark.usefixtures("last_connection")
async def test_one_that_gets_no_connection_from_others_serves_all_the_same_after_a_while(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "REPLACEMENT_TIMEOUT", 0.3)
    app = Dsn.parse(postgres.url_of("app"))
    async with start(app, OPTIONS, retry=True, migrate=False, is_replacement=True) as database:
        assert database.pool.is_starved
        with pytest.raises(Unavailable):
            await database.pool.check_out()


async def test_one_that_starts_asks_others_for_a_connection_too(
    postgres: PostgresServer, last_connection: psycopg.Connection
) -> None:
    app = Dsn.parse(postgres.url_of("app"))
    async with start(app, OPTIONS, retry=True, migrate=False, on_starved=last_connection.close) as database:
        assert last_connection.closed
        assert database.pool.stats.size >= 1


@pytest.mark.parametrize("error", [ValueError("mine"), psycopg.OperationalError("mine"), TimeoutError("mine")])
async def test_an_error_of_the_server_itself_is_not_taken_for_a_failure_to_start(dsn: Dsn, error: Exception) -> None:
    with pytest.raises(type(error), match="mine"):
        async with start(dsn, **PATIENT):
            raise error


async def test_it_can_be_stopped_while_it_waits_for_the_database(refusing: Dsn) -> None:
    async def wait() -> None:
        async with start(refusing, **PATIENT):
            pytest.fail("it started")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
