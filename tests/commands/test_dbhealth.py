"""The command `manage.py dbhealth`."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, command, manage, url_of

SECRET = "correct-horse"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that wants a password of everybody but `postgres`, and does not speak TLS."""
    with PostgresServer(tmp_path_factory.mktemp("guarded") / "pg") as server:
        with psycopg.connect(server.dsn.conninfo, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE app LOGIN PASSWORD '{SECRET}'")
            connection.execute(f"CREATE ROLE crowd LOGIN CONNECTION LIMIT 0 PASSWORD '{SECRET}'")
            (server.folder / "data" / "pg_hba.conf").write_text(
                "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n"
            )
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose owner takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_it_tells_about_a_healthy_database(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "dbhealth")

    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(r"^PostgreSQL \d+\.\d+ at ", outcome.out)
    assert f"database {dsn.database}" in outcome.out
    assert re.search(r"^Transport:  (Unix socket|TCP without TLS|TLS)$", outcome.out, re.MULTILINE)
    assert re.search(r"^Round trip: [\d.]+ ms median, [\d.]+ ms at best$", outcome.out, re.MULTILINE)
    assert "5 to 20 connections" in outcome.out
    assert f"up-to-date (at {migrator.head()}, newest is {migrator.head()})" in outcome.out


def test_it_tells_a_machine_the_same(guarded: PostgresServer) -> None:
    outcome = command(guarded.url_of("app", SECRET), "dbhealth", "--json", database_pool_max=9)
    report = outcome.json

    assert (outcome.status, outcome.err) == (0, "")
    assert SECRET not in outcome.out
    assert report.pop("server_version")
    assert 0 < report.pop("round_trip_min_ms") <= report.pop("round_trip_median_ms")
    assert report == {
        "healthy": True,
        "host": "127.0.0.1",
        "database": "todo",
        "neon_branch": None,
        "transport": "TCP without TLS",
        "migration": "behind",
        "migration_current": None,
        "migration_head": migrator.head(),
        "pool_min": 5,
        "pool_max": 9,
    }


def test_a_database_behind_the_code_is_healthy_and_gets_a_hint(empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), "dbhealth")

    assert outcome.status == 0
    assert f"behind (at nothing, newest is {migrator.head()})" in outcome.out
    assert "migrate_sql" in outcome.out


def assert_fails_with_hint(url: str, hint: str) -> None:
    plain = command(url, "dbhealth", database_connect_timeout=2)
    assert (plain.status, plain.out) == (1, "")
    assert hint in plain.err
    assert plain.err.count("\n") == 1
    assert "?." not in plain.err

    for_machines = command(url, "dbhealth", "--json", database_connect_timeout=2)
    assert (for_machines.status, for_machines.err) == (1, "")
    assert for_machines.json["healthy"] is False
    assert hint in for_machines.json["error"]

    assert SECRET not in plain.err + for_machines.out
    assert "Traceback" not in plain.err + for_machines.out


def test_a_wrong_password_has_its_hint(guarded: PostgresServer) -> None:
    assert_fails_with_hint(guarded.url_of("app", f"{SECRET}-not"), "Check the user and the password")


def test_a_missing_password_has_its_hint(guarded: PostgresServer) -> None:
    assert_fails_with_hint(guarded.url_of("app"), "Check the user and the password")


def test_a_missing_database_has_its_hint(guarded: PostgresServer) -> None:
    assert_fails_with_hint(guarded.url_of(database="nowhere"), "Create the database, or check its name")


def test_a_server_without_tls_has_its_hint(guarded: PostgresServer) -> None:
    assert_fails_with_hint(guarded.url_of("app", SECRET) + "?sslmode=require", "The TLS connection cannot be made")


def test_a_server_without_connections_left_has_its_hint(guarded: PostgresServer) -> None:
    assert_fails_with_hint(guarded.url_of("crowd", SECRET), "lower DATABASE_POOL_MAX")


def test_a_refused_port_has_its_hint() -> None:
    assert_fails_with_hint(f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/todo", "No server listens there")


def test_a_refused_port_of_a_name_with_several_addresses_has_its_hint() -> None:
    assert_fails_with_hint(
        f"postgresql://app:{SECRET}@127.0.0.1,127.0.0.2:{free_port()}/todo", "No server listens there"
    )


def test_a_missing_socket_has_its_hint() -> None:
    assert_fails_with_hint(f"postgresql://app:{SECRET}@/todo?host=/nonexistent", "There is no such socket")


def test_an_unknown_host_has_its_hint() -> None:
    assert_fails_with_hint(f"postgresql://app:{SECRET}@nowhere.invalid/todo", "The host name is unknown")


def test_a_server_that_never_answers_has_its_hint(silent_port: int) -> None:
    started = time.monotonic()
    assert_fails_with_hint(f"postgresql://app:{SECRET}@127.0.0.1:{silent_port}/todo", "Nothing answered in time")
    assert time.monotonic() - started < 10


def test_it_waits_for_a_database_that_comes_up(postgres: PostgresServer) -> None:
    postgres.stop()
    starting = threading.Timer(1.0, postgres.start)
    starting.start()
    try:
        outcome = command(postgres.url, "dbhealth", "--wait", "30")
    finally:
        starting.join()

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("PostgreSQL")


def test_it_waits_no_longer_than_it_should() -> None:
    started = time.monotonic()
    outcome = command(f"postgresql://app@127.0.0.1:{free_port()}/todo", "dbhealth", "--wait", "1")

    assert outcome.status == 1
    assert 1.0 <= time.monotonic() - started < 5


@pytest.mark.parametrize("arguments", [["--wait", "soon"], ["--wait"], ["--jsno"], ["extra"]])
def test_bad_arguments_end_with_status_1_and_the_usage(arguments: list[str], dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "dbhealth", *arguments)

    assert outcome.status == 1
    assert "usage: manage.py dbhealth" in outcome.err


@pytest.mark.slow
def test_the_real_program_does_the_same(dsn: Dsn) -> None:
    environment = {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn)}
    healthy = manage("dbhealth", "--json", environment=environment)
    missing = manage("dbhealth", environment=environment | {"DATABASE_URL": url_of(dsn.with_database("nowhere"))})

    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert json.loads(healthy.stdout)["database"] == dsn.database
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "Create the database" in missing.stderr
    assert "Traceback" not in missing.stderr
