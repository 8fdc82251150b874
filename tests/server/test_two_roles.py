"""The server as a role with few rights behind a real PgBouncer, and all that needs the owner by DATABASE_URL_DIRECT."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from persistence import history, migrator
from tests.faults import pgbouncer
from tests.faults.pgbouncer import PgBouncer
from tests.support.databases import SERVER, as_owner, execute
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, PostgresServer, WebServer, command

HEAD, BEFORE = list(history.revisions())[-1], list(history.revisions())[-2]


@pytest.fixture
def bouncer(postgres: PostgresServer, tmp_path: Path) -> Iterator[PgBouncer]:
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    execute(postgres.dsn, "REVOKE ALL ON DATABASE todo FROM PUBLIC", f"REVOKE ALL ON tasks, users FROM {SERVER}")
    with PgBouncer(tmp_path / "pgbouncer", postgres.port, role=SERVER) as bouncer:
        yield bouncer


# The commands' own tests run with both roles. This one has a pooler as well, and twenty processes.
@pytest.mark.slow
def test_behind_a_pooler_commands_take_the_direct_url_where_they_need_the_owner(
    postgres: PostgresServer, bouncer: PgBouncer, tmp_path: Path
) -> None:
    def run(line: str, **variables: object) -> str:
        name, *arguments = line.split()
        outcome = command(bouncer.url, name, *arguments, database_pooler=True, **variables)
        assert outcome.status == int("Error" in outcome.err), outcome
        return outcome.out + outcome.err

    owner = postgres.url_of("postgres")
    direct = {"database_url_direct": owner}
    assert f"down from {HEAD}" in run("migrate_sql --down 1", **direct)
    assert "Run `manage.py grant_app` now" in run("migrate_sql", **direct)
    assert run(f"grant_app {SERVER}", **direct) == f"{SERVER} has all rights that the server needs, and no others.\n"
    assert "set DATABASE_URL_DIRECT to a URL that goes around it" in run(
        "migrate_sql --down 1", database_url_direct=None
    )
    assert "Statements: all can run" in run("dbhealth")
    assert "removed: 0" in run("purge")
    assert "permission denied for table users" in run("list_users", database_url_direct=None)
    for line in ("create_user alice@example.com", "list_users", "erase_user alice@example.com --yes", "seed_dev"):
        assert "Error" not in run(line, **direct)

    environment = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": bouncer.url}
    environment |= {"DATABASE_POOLER": "true", "DATABASE_URL_DIRECT": owner}
    downgrade = [str(Path(sys.executable).with_name("alembic")), "downgrade", "-1"]
    subprocess.run(downgrade, cwd=ROOT, env=clean_environment() | environment, check=True, capture_output=True)
    assert migrator.current(as_owner(postgres.dsn)) == BEFORE
    with WebServer(tmp_path, environment | {"AUTO_MIGRATE": "true"}) as web:
        assert migrator.current(as_owner(postgres.dsn)) == HEAD
        assert web.http.get("/v1/health").status_code == 200
