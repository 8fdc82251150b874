"""The start with the database: with retries in production, without any in development (D11, D14)."""

import asyncio
import logging
import socket
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from persistence import history, migrator, startup
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from persistence.startup import StartupError, start
from tests.database.conftest import MigrationFiles
from tests.database.helpers import Admin, eventually, options, value_of
from tests.support.processes import free_port
from tests.support.servers import PostgresServer

RETRY: dict[str, Any] = {"options": options(), "retry": True}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(startup, "LONGEST_DELAY", 0.04)


@pytest.fixture
def refusing() -> Dsn:
    """An address on which no server listens."""
    return Dsn.parse(f"postgresql://alice:hunter2@127.0.0.1:{free_port()}/todo")


async def fail(dsn: Dsn, **choices: Any) -> str:
    with pytest.raises(StartupError) as failure:
        async with start(dsn, **choices):
            pytest.fail("it started")
    assert "\n" not in str(failure.value)
    return str(failure.value)


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


async def test_development_fails_at_once_and_says_what_to_do(refusing: Dsn, log: pytest.LogCaptureFixture) -> None:
    message = await fail(refusing, **RETRY | {"retry": False})
    assert message.startswith(f"No connection to the database {refusing}: ")
    assert "Connection refused" in message
    assert "No server listens there" in message
    assert "hunter2" not in message
    assert warnings(log) == []


@pytest.mark.usefixtures("quick_retries")
async def test_production_retries_five_times_and_logs_each(refusing: Dsn, log: pytest.LogCaptureFixture) -> None:
    waits = []
    for _ in range(2):
        log.clear()
        message = await fail(refusing, **RETRY)
        assert "after 6 attempts" in message
        assert "No server listens there" in message
        assert [warning.partition(" failed")[0] for warning in warnings(log)] == [
            f"Attempt {number} of 6 to reach the database" for number in range(1, 6)
        ]
        assert all("refused" in warning for warning in warnings(log))
        assert "hunter2" not in log.text + message
        waits.append([record.args[2] for record in log.records if isinstance(record.args, tuple)])
    for wait, delay in zip(waits[0], (0.01, 0.02, 0.04, 0.04, 0.04), strict=True):
        assert isinstance(wait, float)
        assert delay * (1 - startup.JITTER) <= wait <= delay * (1 + startup.JITTER)
    assert waits[0] != waits[1]


def test_all_attempts_stay_within_thirty_seconds() -> None:
    delays = [min(startup.FIRST_DELAY * 2**retry, startup.LONGEST_DELAY) for retry in range(startup.RETRIES)]
    waiting = sum(delays) * (1 + startup.JITTER)
    assert startup.RETRIES == 5
    assert all(later >= earlier for earlier, later in pairwise(delays))
    assert waiting + (startup.RETRIES + 1) * startup.ADDRESS_TIMEOUT < startup.ATTEMPTS_TIMEOUT == 30


@pytest.mark.usefixtures("quick_retries")
async def test_an_attempt_on_a_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "RETRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        message = await fail(Dsn.parse(f"postgresql://alice@127.0.0.1:{listener.getsockname()[1]}/todo"), **RETRY)
    assert "after 2 attempts: the connection timed out. Nothing answered in time" in message


@pytest.mark.usefixtures("quick_retries")
async def test_production_starts_when_the_database_comes_up_meanwhile(
    server: Dsn, migrated_dsn: Dsn, log: pytest.LogCaptureFixture
) -> None:
    def allow(allowed: bool) -> None:
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{migrated_dsn.database}" ALLOW_CONNECTIONS {allowed}'.encode())

    def allow_after_two_attempts(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("Attempt 2 of 6"):
            allow(allowed=True)
        return True

    allow(allowed=False)
    startup.logger.addFilter(allow_after_two_attempts)
    try:
        async with start(migrated_dsn, **RETRY) as database:
            assert await migrator.applied_revision(database, 60) == history.head()
    finally:
        startup.logger.removeFilter(allow_after_two_attempts)

    assert len(warnings(log)) == 2
    assert f"Connected to the database {migrated_dsn}." in log.messages


async def test_it_warns_and_starts_all_the_same_when_the_schema_is_behind(
    empty_dsn: Dsn, admin: Admin, log: pytest.LogCaptureFixture
) -> None:
    behind = "The database is behind the code; run `manage.py migrate_sql`."
    faulty = "Not every statement can run on the database: "

    async def start_at(revision: str | None) -> list[str]:
        log.clear()
        async with start(empty_dsn, **RETRY) as database:
            assert await migrator.applied_revision(database, 60) == revision
        return warnings(log)

    assert await start_at(None) == [f'{faulty}42P01: relation "alembic_version" does not exist', behind]
    migrator.migrate(empty_dsn, "0001")
    assert await start_at("0001") == [f"{faulty}42703: column users.is_erased does not exist", behind]
    migrator.migrate(empty_dsn, history.head())
    # Newer code has migrated it.
    admin.execute("UPDATE alembic_version SET version_num = '0999'")
    assert await start_at("0999") == []


@pytest.mark.parametrize("retry", [True, False])
async def test_it_migrates_when_told_to_and_names_each_revision(
    empty_dsn: Dsn, log: pytest.LogCaptureFixture, retry: bool
) -> None:
    for migrated in (history.revisions().items(), ()):
        log.clear()
        async with start(empty_dsn, options(), retry=retry, migrate_at=empty_dsn) as database:
            assert await migrator.applied_revision(database, 60) == history.head()
            assert database.pool.stats.in_use == 0
        assert warnings(log) == []
        assert [line.partition(" in ")[0] for line in log.messages if line.startswith("Migrated")] == [
            f"Migrated to {revision} ({description})" for revision, description in migrated
        ]


@pytest.mark.parametrize("migrates", [False, True])
async def test_it_does_not_start_with_a_history_that_cannot_be_told(
    migrated_dsn: Dsn, admin: Admin, revisions: MigrationFiles, migrates: bool
) -> None:
    choices = RETRY | {"migrate_at": migrated_dsn if migrates else None}
    admin.execute("INSERT INTO alembic_version VALUES ('0001')")
    assert f"The database is at 0001 and {history.head()} at once" in await fail(migrated_dsn, **choices)
    admin.execute("DELETE FROM alembic_version WHERE version_num = '0001'")
    last = f"{revisions.add('pass')}_try_it.py"
    (revisions.versions / last).rename(revisions.versions / "0002_try_it.py")
    history.revisions.cache_clear()
    assert "0002_try_it.py does not follow 0002_" in await fail(migrated_dsn, **choices)


async def test_it_does_not_start_when_migrating_fails(empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrator, "MIGRATION_LOCK_TIMEOUT", 0.2)
    with migrator.locked_connection(empty_dsn):
        message = await fail(empty_dsn, **RETRY, migrate_at=empty_dsn)
    assert "cannot be migrated" in message
    assert migrator.current(empty_dsn) is None


@pytest.mark.parametrize("fails", [False, True])
async def test_a_replacement_does_not_wait_long_for_its_migration(
    empty_dsn: Dsn, admin: Admin, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(startup, "REPLACEMENT_TIMEOUT", 0.1)
    admin.execute("SELECT pg_advisory_lock(%s)", migrator.MIGRATION_LOCK)
    async with start(empty_dsn, **RETRY, migrate_at=empty_dsn, is_replacement=True) as database:
        assert await migrator.applied_revision(database, 60) is None
        assert "serving meanwhile" in log.text
        if fails:
            admin.execute("CREATE TABLE users ()")
        failure = 'The migration failed: Revision 0001 (Create users and tasks) failed: relation "users"'
        admin.execute("SELECT pg_advisory_unlock(%s)", migrator.MIGRATION_LOCK)
        await eventually(lambda: failure in log.text if fails else migrator.current(empty_dsn) == history.head())


async def test_a_replacement_serves_what_it_can_until_the_database_is_back(
    postgres: PostgresServer, log: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(postgres.stop)
    async with start(postgres.dsn, **RETRY, migrate_at=postgres.dsn, is_replacement=True) as database:
        assert any("cannot be migrated or asked" in warning for warning in warnings(log))
        with pytest.raises(Unavailable):
            await value_of(database, "SELECT 1 AS value")
        await asyncio.to_thread(postgres.start)
        await eventually(lambda: database.pool.stats.idle > 0)
        assert await migrator.applied_revision(database, 60) == history.head()


@pytest.mark.parametrize("error", [ValueError("mine"), psycopg.OperationalError("mine"), TimeoutError("mine")])
async def test_an_error_of_the_server_itself_is_not_taken_for_a_failure_to_start(dsn: Dsn, error: Exception) -> None:
    with pytest.raises(type(error), match="mine"):
        async with start(dsn, **RETRY):
            raise error


async def test_it_can_be_stopped_while_it_waits_for_the_database(refusing: Dsn, log: pytest.LogCaptureFixture) -> None:
    async def wait() -> None:
        async with start(refusing, **RETRY):
            pytest.fail("it started")

    task = asyncio.create_task(wait())
    await eventually(lambda: len(warnings(log)) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
