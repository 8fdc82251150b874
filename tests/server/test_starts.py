"""The start of a server whose database is away, late, behind or empty."""

import subprocess
import time
from pathlib import Path

import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, WebServer, eventually
from tests.support.sites import WORKERS, production

SECRET = "correct-horse"


def run_to_its_end(folder: Path, environment: str, workers: int) -> WebServer:
    """A server that cannot start, as no database listens."""
    settings = {
        "ENVIRONMENT": environment,
        "DATABASE_URL": f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/todo",
    }
    web = WebServer(folder, settings, "--workers", str(workers))
    web.start()
    try:
        web.process.wait(120)
    except subprocess.TimeoutExpired:
        web.process.kill()
        web.process.wait()
    finally:
        web.http.close()
    assert "No connection to the database app@127.0.0.1" in web.log
    assert "No server listens there" in web.log
    assert web.log.count("Reason: Worker failed to boot.") == 1
    assert "Traceback" not in web.log
    assert SECRET not in web.log
    return web


def test_development_fails_at_once_and_in_good_order_with_several_workers(tmp_path: Path) -> None:
    web = run_to_its_end(tmp_path, "development", workers=3)

    assert web.process.returncode == 3
    assert "Attempt" not in web.log


@pytest.mark.slow
def test_production_tries_five_more_times_then_fails_within_thirty_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    web = run_to_its_end(tmp_path, "production", workers=1)

    assert time.monotonic() - started < 30
    assert web.process.returncode == 3
    attempts = [line for line in web.log.splitlines() if "to reach the database failed" in line]
    assert [line.partition("Attempt ")[2][:6] for line in attempts] == [f"{number} of 6" for number in range(1, 6)]
    waits = [float(line.partition("the next is in ")[2].partition(" s")[0]) for line in attempts]
    # Exponential with jitter, up to a longest wait.
    assert waits[0] < waits[1] < waits[2] < waits[3]
    assert web.log.count("CRITICAL") == 1


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
def test_production_starts_with_migrations_behind_and_says_so(empty_dsn: Dsn, tmp_path: Path) -> None:
    with production(empty_dsn, tmp_path) as web:
        eventually(lambda: web.log.count("ASGI server listening") == WORKERS)
        health = web.http.get("/v1/health")

    assert health.status_code == 200
    assert health.json()["data"] == {"status": "healthy", "database": "connected", "migration": "behind"}
    assert web.log.count("WARNING persistence.startup [-] The database is behind the code") == WORKERS
    assert "migrate_sql" in web.log


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "workers"), [("production", 4), ("development", 1)])
def test_any_number_of_workers_may_migrate_at_the_start(
    environment: str, workers: int, empty_dsn: Dsn, tmp_path: Path
) -> None:
    auto = str(environment == "production").lower()
    with production(empty_dsn, tmp_path, "--workers", str(workers), ENVIRONMENT=environment, AUTO_MIGRATE=auto) as web:
        eventually(lambda: web.log.count("ASGI server listening") == workers)

        assert web.http.get("/v1/health").json()["data"]["migration"] == "up-to-date"
        # The command line wins over WEB_CONCURRENCY.
        assert web.log.count("Booting worker") == workers
    assert web.log.count("Migrated to") == len(migrator.revisions())
    assert "ERROR" not in web.log
