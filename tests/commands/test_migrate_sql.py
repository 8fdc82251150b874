"""The command `manage.py migrate_sql`; the migrations themselves are tested in `tests/database`."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config

from persistence import history, migrator
from persistence.postgres.dsn import Dsn
from tests.database.conftest import MigrationFiles
from tests.support.databases import as_owner
from tests.support.servers import command, url_of

HEAD = history.head()
REVISIONS = list(history.revisions())
NEXT = f"{len(REVISIONS) + 1:04}"


def runs(text: str) -> list[str]:
    """The direction and the revision of each revision that was reported with a duration."""
    return re.findall(r"^((?:up to|down from) \d{4}) \S.* \(\d+ ms\)$", text, re.MULTILINE)


def up(*revisions: str) -> list[str]:
    return [f"up to {revision}" for revision in revisions]


def down(*revisions: str) -> list[str]:
    return [f"down from {revision}" for revision in reversed(revisions)]


def test_it_goes_to_the_newest_or_to_a_revision_and_reports_each_step(empty_dsn: Dsn) -> None:
    for arguments, expected, current in (
        ([], up(*REVISIONS), HEAD),
        (["--down", "1"], down(HEAD), REVISIONS[-2]),
        (["0001"], down(*REVISIONS[1:-1]), "0001"),
        (["head"], up(*REVISIONS[1:]), HEAD),
        (["base"], down(*REVISIONS), None),
    ):
        outcome = command(url_of(empty_dsn), "migrate_sql", *arguments)
        assert (outcome.status, outcome.err) == (0, "")
        assert runs(outcome.out) == expected
        assert len(outcome.out.splitlines()) == len(expected)
        assert migrator.current(empty_dsn) == current


def test_a_second_run_has_nothing_to_do(dsn: Dsn) -> None:
    assert command(url_of(dsn), "migrate_sql").out == f"Nothing to do: the database is at {HEAD}.\n"


def test_sql_prints_what_would_run_and_runs_nothing(empty_dsn: Dsn, dsn: Dsn) -> None:
    printed = command(url_of(empty_dsn), "migrate_sql", "--sql")
    way_down = command(url_of(dsn), "migrate_sql", "--sql", "--down", "1")
    nothing = command(url_of(dsn), "migrate_sql", "--sql")

    assert [outcome.status for outcome in (printed, way_down, nothing)] == [0] * 3
    assert printed.out.strip() == migrator.sql(None, "head").strip()
    assert way_down.out.strip() == migrator.sql(HEAD, REVISIONS[-2]).strip()
    assert nothing.out == f"-- Nothing to do: the database is at {HEAD}.\n"
    # Each transaction waits as briefly for a table as a revision that runs.
    for outcome in (printed, way_down):
        assert outcome.out.count("BEGIN;") == outcome.out.count("BEGIN;\n\nSET lock_timeout = '3s';\n") > 0
    assert (migrator.current(empty_dsn), migrator.current(dsn)) == (None, HEAD)


def test_status_and_check_tell_where_the_database_is(empty_dsn: Dsn, dsn: Dsn) -> None:
    url = url_of(empty_dsn)

    empty = command(url, "migrate_sql", "--check")
    migrator.migrate(empty_dsn, "0001")
    status = command(url, "migrate_sql", "--status")
    outcomes = [command(url, "migrate_sql", option, "--json") for option in ("--status", "--check")]
    current = command(url_of(dsn), "migrate_sql", "--check", "--json")
    with psycopg.connect(empty_dsn.conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = command(url, "migrate_sql", "--check", "--json")
    marked = command(url, "migrate_sql", "--status")
    refused = [command(url, "migrate_sql", *arguments) for arguments in ([], ["0001"], ["--down", "1"], ["--sql"])]

    assert [outcome.status for outcome in (empty, status, *outcomes, current, newer)] == [1, 0, 0, 1, 0, 1]
    assert "behind (at nothing" in empty.out
    first, *rest, last = status.out.splitlines()
    assert first.startswith("[x] 0001 Create users and tasks")
    assert all(line.startswith("[ ] ") for line in rest)
    assert last == f"The database is behind (at 0001, newest is {HEAD})."
    assert [outcome.json for outcome in outcomes] == [{"current": "0001", "head": HEAD, "state": "behind"}] * 2
    assert current.json == {"current": HEAD, "head": HEAD, "state": "up-to-date"}
    assert newer.json["state"] == "unknown"
    # Which revisions of this code are applied cannot be told.
    *marks, last, advice = marked.out.splitlines()
    assert {mark[:4] for mark in marks} == {"[?] "}
    assert last == f"The database is unknown (at 9999, newest is {HEAD})."
    assert "Use the newer code" in advice
    assert {(outcome.status, outcome.err) for outcome in refused} == {(1, f"Error: {advice}\n")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0099"], "There is no revision 0099 in this code; there are base, 0001"),
        (["--down", "0"], "--down takes the number"),
        (["--down", "-1"], "--down takes the number"),
        (["--down", "99"], f"Only {len(REVISIONS)} migrations are applied"),
        (["--down", "one"], "invalid int value"),
        (["0001", "--down", "1"], "goes with none of"),
        (["--status", "--check"], "not allowed with"),
        (["--status", "--sql"], "--sql goes with none of"),
        (["--json"], "--json goes with --status or --check"),
        (["--new", "..."], "A revision needs a description"),
    ],
)
def test_bad_arguments_end_with_status_1_and_say_why(arguments: list[str], message: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "migrate_sql", *arguments)

    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err
    assert migrator.current(dsn) == HEAD


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with a copy of the revisions, in which the command works."""
    monkeypatch.setattr(history, "config", lambda: Config(toml_file=tmp_path / "pyproject.toml"))
    yield MigrationFiles(tmp_path).versions
    history.revisions.cache_clear()


def test_new_writes_a_revision_that_fails_until_it_is_filled(copied: Path, empty_dsn: Dsn, url_of_nothing: str) -> None:
    written = command(url_of_nothing, "migrate_sql", "--new", "Add tasks.colour.")
    history.revisions.cache_clear()
    unfilled = command(url_of(empty_dsn), "migrate_sql")

    file = copied / f"{NEXT}_add_tasks_colour.py"
    assert (written.status, written.err) == (0, "")
    assert re.fullmatch(rf"Wrote \S+{file.name}; .+\n", written.out)
    assert file.read_text().startswith('"""Add tasks.colour.\n')
    assert unfilled.status == 1
    assert runs(unfilled.out) == up(*REVISIONS)
    assert unfilled.err.startswith(f"Error: Revision {NEXT} (Add tasks.colour) failed: syntax error")
    assert unfilled.err.endswith(", in: write the migration\n")
    assert unfilled.err.count("\n") == 1
    assert migrator.current(empty_dsn) == HEAD


def test_it_waits_for_a_connection_as_long_as_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    connect = psycopg.connect

    def note(conninfo: str, *, connect_timeout: float) -> psycopg.Connection:
        waits.append(connect_timeout)
        return connect(conninfo, connect_timeout=2)

    monkeypatch.setattr(psycopg, "connect", note)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/todo"
        outcome = command(url, "migrate_sql", "--check", database_connect_timeout=17)
    assert "Nothing answered in time" in outcome.err
    assert waits == [17]


def test_it_does_not_wait_for_ever_to_ask_for_the_revision(migrated_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrator, "SET_LOCK_TIMEOUT", "SET lock_timeout = '10ms'")
    with psycopg.connect(as_owner(migrated_dsn).conninfo) as other:
        other.execute("LOCK TABLE alembic_version")
        outcome = command(url_of(migrated_dsn), "migrate_sql", "--check")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "Error: 55P03: canceling statement due to lock timeout.\n"
