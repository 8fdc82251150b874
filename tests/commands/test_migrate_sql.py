"""The command `manage.py migrate_sql`; the migrations themselves are tested in `tests/database`."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.database.conftest import MigrationFiles
from tests.support.servers import command, url_of

HEAD = migrator.head()
REVISIONS = list(migrator.revisions())
NEXT = f"{len(REVISIONS) + 1:04}"


def steps(text: str) -> list[tuple[str, str]]:
    """The direction and the revision of each step that was reported with a duration."""
    return re.findall(r"^(up to|down from) (\d{4}) \S.* \(\d+ ms\)$", text, re.MULTILINE)


def up(*revisions: str) -> list[tuple[str, str]]:
    return [("up to", revision) for revision in revisions]


def down(*revisions: str) -> list[tuple[str, str]]:
    return [("down from", revision) for revision in reversed(revisions)]


def test_it_goes_to_the_newest_and_reports_each_step(empty_dsn: Dsn) -> None:
    first = command(url_of(empty_dsn), "migrate_sql")
    second = command(url_of(empty_dsn), "migrate_sql")

    assert (first.status, first.err) == (0, "")
    assert steps(first.out) == up(*REVISIONS)
    assert len(first.out.splitlines()) == len(REVISIONS)
    assert (second.status, second.err) == (0, "")
    assert second.out == f"Nothing to do: the database is at {HEAD}.\n"
    assert migrator.current(empty_dsn) == HEAD


def test_it_goes_up_and_down_to_a_revision(empty_dsn: Dsn) -> None:
    for arguments, expected, current in (
        (["0001"], up("0001"), "0001"),
        (["head"], up(*REVISIONS[1:]), HEAD),
        (["--down", "1"], down(HEAD), REVISIONS[-2]),
        (["0001"], down(*REVISIONS[1:-1]), "0001"),
        (["base"], down("0001"), None),
    ):
        assert steps(command(url_of(empty_dsn), "migrate_sql", *arguments).out) == expected
        assert migrator.current(empty_dsn) == current


def test_sql_prints_what_would_run_and_runs_nothing(empty_dsn: Dsn, dsn: Dsn) -> None:
    printed = command(url_of(empty_dsn), "migrate_sql", "--sql")
    way_down = command(url_of(dsn), "migrate_sql", "--sql", "--down", "1")
    nothing = command(url_of(dsn), "migrate_sql", "--sql")

    assert [outcome.status for outcome in (printed, way_down, nothing)] == [0] * 3
    assert printed.out.strip() == migrator.sql(None, "head").strip()
    assert way_down.out.strip() == migrator.sql(HEAD, REVISIONS[-2]).strip()
    assert not re.search("CREATE|DROP|ALTER|UPDATE|INSERT", nothing.out)
    assert (migrator.current(empty_dsn), migrator.current(dsn)) == (None, HEAD)


def test_status_marks_the_revisions_that_are_applied(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, "0001")
    outcome = command(url_of(empty_dsn), "migrate_sql", "--status")

    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("[x] 0001 Create users and tasks")
    assert all(line.startswith("[ ] 000") for line in lines[1:-1])
    assert lines[-1] == f"The database is behind (at 0001, newest is {HEAD})."


def test_check_fails_when_the_database_is_behind(empty_dsn: Dsn) -> None:
    url = url_of(empty_dsn)

    empty = command(url, "migrate_sql", "--check")
    migrator.migrate(empty_dsn, "0001")
    behind = command(url, "migrate_sql", "--check", "--json")
    status = command(url, "migrate_sql", "--status", "--json")
    migrator.migrate(empty_dsn)
    current = command(url, "migrate_sql", "--check", "--json")

    assert [outcome.status for outcome in (empty, behind, status, current)] == [1, 1, 0, 0]
    assert "behind (at nothing" in empty.out
    assert behind.json == status.json == {"current": "0001", "head": HEAD, "state": "behind"}
    assert current.json == {"current": HEAD, "head": HEAD, "state": "up-to-date"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0099"], "There is no revision 0099 in this code; there are base, 0001"),
        (["--down", "0"], "--down takes the number"),
        (["--down", "-1"], "--down takes the number"),
        (["--down", "99"], f"Only {len(REVISIONS)} migrations are applied"),
        (["--down", "one"], "invalid int value"),
        (["--down"], "expected one argument"),
        (["0001", "--down", "1"], "goes with none of"),
        (["--status", "--check"], "not allowed with"),
        (["--json"], "--json goes with --status or --check"),
        (["--new", ""], "A revision needs a description"),
        (["--new", "..."], "A revision needs a description"),
    ],
)
def test_bad_arguments_end_with_status_1_and_say_why(arguments: list[str], message: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "migrate_sql", *arguments)

    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err
    assert migrator.current(dsn) == HEAD


def test_a_database_of_newer_code_is_left_alone(migrated_dsn: Dsn) -> None:
    with psycopg.connect(migrated_dsn.conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    for arguments in ([], ["--down", "1"], ["0001"], ["--sql"]):
        outcome = command(url_of(migrated_dsn), "migrate_sql", *arguments)
        assert (outcome.status, outcome.out) == (1, "")
        assert "9999" in outcome.err
    status = command(url_of(migrated_dsn), "migrate_sql", "--check", "--json")
    assert (status.status, status.json["state"]) == (1, "unknown")
    assert migrator.current(migrated_dsn) == "9999"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MigrationFiles]:
    """A copy of the migrations, in which the command works."""
    files = MigrationFiles(tmp_path)
    monkeypatch.setattr(migrator, "_config", lambda: Config(toml_file=tmp_path / "pyproject.toml"))
    yield files
    migrator.revisions.cache_clear()


def test_new_writes_a_revision_that_must_be_filled(
    copied: MigrationFiles, migrated_dsn: Dsn, url: str, url_of_nothing: str
) -> None:
    written = command(url_of_nothing, "migrate_sql", "--new", "Add tasks.colour.")
    migrator.revisions.cache_clear()
    file = copied.versions / f"{NEXT}_add_tasks_colour.py"
    unfilled = command(url, "migrate_sql")

    assert (written.status, written.err) == (0, "")
    assert re.fullmatch(rf"Wrote \S+{file.name}; .+\n", written.out)
    assert file.read_text().startswith('"""Add tasks.colour.\n')
    # A revision that nobody has filled must not count as done.
    assert (unfilled.status, unfilled.out) == (1, "")
    assert unfilled.err.startswith(f"Error: Revision {NEXT} (Add tasks.colour) failed: NotImplementedError: write")
    assert migrator.current(migrated_dsn) == HEAD


def test_a_revision_that_fails_is_one_line_after_the_steps_that_remain(copied: MigrationFiles, empty_dsn: Dsn) -> None:
    copied.add('op.execute("SELECT 1 / 0")')
    migrator.revisions.cache_clear()

    outcome = command(url_of(empty_dsn), "migrate_sql")

    assert outcome.status == 1
    assert steps(outcome.out) == up(*REVISIONS)
    assert outcome.err.startswith(f"Error: Revision {NEXT} (Try it) failed: division by zero")
    assert outcome.err.count("\n") == 1
    assert migrator.current(empty_dsn) == HEAD
