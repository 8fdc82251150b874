"""The command `manage.py dbhealth`."""

import asyncio
import re
import socket
import time
from types import SimpleNamespace

import pytest

from persistence import history, migrator
from persistence.health_report import Report, examine
from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from tests.commands.conftest import SECRET
from tests.support.servers import PostgresServer, command, url_of
from todos.management.commands import dbhealth

HEAD = history.head()


def test_it_tells_about_a_healthy_database(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "dbhealth")

    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(r"^PostgreSQL \d+\.\d+ at ", outcome.out)
    assert f"database {dsn.database}" in outcome.out
    assert re.search(r"^Transport:  (Unix socket|TCP without TLS|TLS)$", outcome.out, re.MULTILINE)
    assert re.search(r"^Round trip: [\d.]+ ms median, [\d.]+ ms at best$", outcome.out, re.MULTILINE)
    assert "5 to 20 connections" in outcome.out
    assert f"up-to-date (at {HEAD}, newest is {HEAD})" in outcome.out
    assert "Statements: all can run" in outcome.out


def test_it_tells_a_machine_the_same(postgres: PostgresServer) -> None:
    outcome = command(postgres.url_of("postgres", SECRET), "dbhealth", "--json", database_pool_max=9)
    report = outcome.json

    assert (outcome.status, outcome.err) == (0, "")
    assert SECRET not in outcome.out
    assert report.pop("server_version")
    assert 0 < report.pop("round_trip_min_ms") <= report.pop("round_trip_median_ms")
    assert report == {
        "healthy": True, "host": "127.0.0.1", "database": "todo", "neon_branch": None, "transport": "TCP without TLS",
        "migration": "up-to-date", "migration_current": HEAD, "migration_head": HEAD, "faults": [],
        "excess_rights": ["SUPERUSER"],
        "pool_min": 5, "pool_max": 9,
    }  # fmt: skip


def test_a_database_behind_the_code_is_healthy_if_all_works_and_gets_a_hint(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = command(url_of(empty_dsn), "dbhealth")
    for_machines = command(url_of(empty_dsn), "dbhealth", "--json")
    migrator.migrate(empty_dsn)
    # A revision that no statement needs.
    known = history.revisions() | {"9999": "Drop what is not used any more"}
    monkeypatch.setattr(history, "revisions", lambda: known)
    behind = command(url_of(empty_dsn), "dbhealth")
    monkeypatch.setattr(history, "revisions", lambda: {"0001": "Create users and tasks"})
    ahead = command(url_of(empty_dsn), "dbhealth")

    assert (empty.status, for_machines.status, behind.status) == (1, 1, 0)
    assert f"behind (at nothing, newest is {HEAD})" in empty.out
    assert "Statements: not all can run" in empty.out
    fault = 'revision: 42P01: relation "alembic_version" does not exist. Run `manage.py migrate_sql`, or '
    assert for_machines.json["healthy"] is False
    assert for_machines.json["faults"][0].startswith(fault)
    assert f"behind (at {HEAD}, newest is 9999)" in behind.out
    assert "migrate_sql" in behind.out
    assert history.ahead(HEAD) in ahead.out


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_it_refuses_to_wait_for_less_than_nothing(seconds: str, url_of_nothing: str) -> None:
    outcome = command(url_of_nothing, "dbhealth", "--wait", seconds)

    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Error: --wait takes the number of seconds, from 0.\n"


def test_a_database_that_cannot_be_reached_has_its_hint(dsn: Dsn, url_of_nothing: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for url, seconds, hint in (
            (url_of(dsn.with_database("nowhere")), 30, "Create the database, or check its name"),
            (f"postgresql://app:{SECRET}@nowhere.invalid/todo", 30, "The host name is unknown"),
            (f"postgresql://app:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/todo", 2, "Nothing answered in time"),
        ):
            outcome = command(url, "dbhealth", database_connect_timeout=seconds)
            assert (outcome.status, outcome.out) == (1, "")
            assert hint in outcome.err
            assert outcome.err.count("\n") == 1
            assert "?." not in outcome.err
            assert SECRET not in outcome.err

    for_machines = command(url_of_nothing, "dbhealth", "--json")
    assert (for_machines.status, for_machines.err) == (1, "")
    assert for_machines.json["healthy"] is False
    assert "No server listens there" in for_machines.json["error"]
    assert SECRET not in for_machines.out


def test_it_waits_for_a_database_that_comes_up(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.stop()
    # The database comes up while the command waits for the first time.
    monkeypatch.setattr(dbhealth, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: postgres.start()))

    outcome = command(postgres.url, "dbhealth", "--wait", "30")

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("PostgreSQL")


def test_it_waits_for_a_database_that_goes_away_while_it_is_asked(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, repairs = [postgres.stop], [postgres.start]

    async def interrupted(database: Database, dsn: Dsn) -> Report:
        if faults:
            await asyncio.to_thread(faults.pop())
        return await examine(database, dsn)

    def sleep(seconds: float) -> None:
        if repairs:
            repairs.pop()()
        else:
            time.sleep(seconds)

    monkeypatch.setattr(dbhealth, "examine", interrupted)
    monkeypatch.setattr(dbhealth, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))

    outcome = command(postgres.url, "dbhealth", "--wait", "30")

    assert (outcome.err, faults) == ("", [])
    assert outcome.out.startswith("PostgreSQL")


def test_it_waits_no_longer_than_it_should(url_of_nothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(dbhealth, "time", SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append))

    assert command(url_of_nothing, "dbhealth", "--wait", "1").status == 1
    assert sum(waits) == 1
