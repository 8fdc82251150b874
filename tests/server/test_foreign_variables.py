"""Variables of other programs, which have no say in what this one does (D51)."""

from pathlib import Path

import pytest
from psycopg.pq import Conninfo

from persistence.postgres.dsn import Dsn
from tests.support.servers import PostgresServer, WebServer, manage, url_of

OF_LIBPQ = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
OF_POSTGRESQL = {"PGDATA", "PGDATESTYLE", "PGGEQO", "PGLOCALEDIR", "PGREALM", "PGSERVICEFILE", "PGSYSCONFDIR", "PGTZ"}
NONSENSE = dict.fromkeys(OF_LIBPQ | OF_POSTGRESQL, "nonsense")


def test_it_knows_the_variables_of_libpq() -> None:
    assert {"PGHOSTADDR", "PGSERVICE", "PGOPTIONS", "PGCLIENTENCODING", "PGSSLMODE", "PGREQUIREAUTH"} <= OF_LIBPQ


@pytest.mark.slow
def test_a_server_serves_whatever_the_variables_of_libpq_say(postgres: PostgresServer, tmp_path: Path) -> None:
    settings = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": postgres.url}
    with WebServer(tmp_path, settings | NONSENSE, "--workers", "1") as web:
        assert web.http.get("/v1/health").json()["data"]["status"] == "healthy"


def test_commands_run_whatever_the_variables_of_libpq_say(migrated_dsn: Dsn) -> None:
    settings = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url_of(migrated_dsn)}
    for arguments in (("dbhealth",), ("migrate_sql", "--check")):
        done = manage(*arguments, environment=settings | NONSENSE)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_development_database_starts_whatever_the_variables_of_postgresql_say(tmp_path: Path) -> None:
    settings = {"ENVIRONMENT": "development", "DATABASE_URL": f"embedded://{tmp_path / 'database'}"}
    done = manage("migrate_sql", environment=settings | NONSENSE)
    assert done.returncode == 0, done.stderr
