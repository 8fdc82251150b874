"""The start of a server whose database is away, late, behind or empty."""

import json
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from persistence import history
from persistence.postgres.dsn import Dsn
from tests.support.processes import free_port
from tests.support.servers import LONG, ROOT, PostgresServer, WebServer, eventually
from tests.support.sites import WORKERS, locked, production

SECRET = "correct-horse"


def run_to_its_end(folder: Path, environment: str, workers: int) -> WebServer:
    """A server that cannot start, as no database listens, and whose workers find that out together."""
    gate = folder / "gate"
    gate.touch()
    url = f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/todo"
    settings = {"ENVIRONMENT": environment, "AUTH_MODE": "trusted", "DATABASE_URL": url, "GATE": str(gate)}
    web = WebServer(folder, settings, "--workers", str(workers), "tests.support.gated:application")
    try:
        with locked(gate):
            web.start()
            eventually(lambda: web.log.count("At the gate") == workers)
        web.process.wait(LONG)
    finally:
        web.end()
    assert web.process.returncode == 3
    assert "No connection to the database app@127.0.0.1" in web.log
    assert "No server listens there" in web.log
    assert web.log.count("Reason: Worker failed to boot.") == 1
    assert "Traceback" not in web.log
    assert SECRET not in web.log
    return web


def test_development_fails_at_once_and_in_good_order_with_several_workers(tmp_path: Path) -> None:
    assert "Attempt" not in run_to_its_end(tmp_path, "development", workers=3).log


def test_a_worker_that_is_one_too_many_while_it_starts_is_no_failure(migrated_dsn: Dsn, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    web = production(migrated_dsn, tmp_path, "tests.support.gated:application", GATE=str(gate), PYTHONPATH=str(ROOT))
    try:
        with locked(gate):
            web.start()
            eventually(lambda: web.log.count("At the gate") == WORKERS)
            web.process.send_signal(signal.SIGTTOU)
            eventually(lambda: "Worker exiting" in web.log)
        web.wait_until_live()
        assert web.stop() == 0
    finally:
        web.end()
    assert web.log.count("Booting worker") == WORKERS
    assert "ERROR" not in web.log


@pytest.mark.slow
def test_production_tries_five_more_times_then_fails_within_thirty_seconds(tmp_path: Path) -> None:
    web = run_to_its_end(tmp_path, "production", workers=1)

    attempts = [line for line in web.log.splitlines() if "to reach the database failed" in line]
    assert [line.partition("Attempt ")[2][:6] for line in attempts] == [f"{number} of 6" for number in range(1, 6)]
    waits = [float(line.partition("the next is in ")[2].partition(" s")[0]) for line in attempts]
    # Exponential with jitter, up to a longest wait.
    assert waits[0] < waits[1] < waits[2] < waits[3]
    [last] = [line for line in web.log.splitlines() if "CRITICAL" in line]
    began, ended = (datetime.fromisoformat(json.loads(line)["time"]) for line in (attempts[0], last))
    assert ended - began < timedelta(seconds=30)


@pytest.mark.slow
def test_production_waits_for_a_database_that_comes_up_late(postgres: PostgresServer, tmp_path: Path) -> None:
    postgres.stop()
    web = production(postgres.dsn, tmp_path, "--workers", "1", DATABASE_URL=postgres.url)
    web.start()
    try:
        eventually(lambda: "Attempt 1 of 6" in web.log)
        postgres.start()
        web.wait_until_live()

        assert web.http.get("/v1/health").status_code == 200
    finally:
        web.end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "auto", "workers", "migration"),
    [
        ("production", "false", WORKERS, "behind"),
        ("production", "true", 4, "up-to-date"),
        ("development", "false", 1, "up-to-date"),
    ],
)
def test_the_start_brings_the_schema_up_to_date_unless_production_leaves_that_to_others(
    environment: str, auto: str, workers: int, migration: str, empty_dsn: Dsn, tmp_path: Path
) -> None:
    number = ("--workers", str(workers))
    with production(
        empty_dsn, tmp_path, *number, ENVIRONMENT=environment, AUTO_MIGRATE=auto, WEB_CONCURRENCY="9"
    ) as web:
        eventually(lambda: web.log.count("ASGI server listening") == workers)
        health = web.http.get("/v1/health")

    is_behind = migration == "behind"
    # There are no tables then.
    assert health.status_code == (503 if is_behind else 200)
    status, database = ("unhealthy", "unusable") if is_behind else ("healthy", "connected")
    assert health.json()["data"] == {"status": status, "database": database, "migration": migration}
    # The command line wins over WEB_CONCURRENCY.
    assert web.log.count("Booting worker") == workers
    assert web.log.count("Migrated to") == (0 if is_behind else len(history.revisions()))
    warning = "The database is behind the code; run `manage.py migrate_sql`"
    assert web.log.count(warning) == (workers if is_behind else 0)
    assert "ERROR" not in web.log
