"""The command `manage.py migrate_sql`."""

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.processes import clean_environment, free_port
from tests.support.servers import ROOT, command, copy_project, manage, url_of

HEAD = migrator.head()
REVISIONS = list(migrator.revisions())


def at(dsn: Dsn) -> str | None:
    return migrator.current(dsn)


def steps(text: str) -> list[tuple[str, str]]:
    """The direction and the revision of each step that was reported with a duration."""
    return re.findall(r"^(up to|down from) (\d{4}) \S.* \(\d+ ms\)$", text, re.MULTILINE)


def test_it_goes_to_the_newest_and_reports_each_step(empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), "migrate_sql")

    assert (outcome.status, outcome.err) == (0, "")
    assert steps(outcome.out) == [("up to", revision) for revision in REVISIONS]
    assert len(outcome.out.splitlines()) == len(REVISIONS)
    assert at(empty_dsn) == HEAD


def test_a_second_run_has_nothing_to_do(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "migrate_sql")

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == f"Nothing to do: the database is at {HEAD}.\n"


def test_it_goes_up_and_down_to_a_revision(empty_dsn: Dsn) -> None:
    url = url_of(empty_dsn)

    assert steps(command(url, "migrate_sql", "0001").out) == [("up to", "0001")]
    assert at(empty_dsn) == "0001"
    assert steps(command(url, "migrate_sql", "head").out) == [("up to", revision) for revision in REVISIONS[1:]]
    assert steps(command(url, "migrate_sql", "0001").out) == [
        ("down from", revision) for revision in reversed(REVISIONS[1:])
    ]
    assert steps(command(url, "migrate_sql", "base").out) == [("down from", "0001")]
    assert at(empty_dsn) is None


def test_down_takes_as_many_steps_back_as_it_is_told(empty_dsn: Dsn) -> None:
    url = url_of(empty_dsn)
    migrator.migrate(empty_dsn)

    assert steps(command(url, "migrate_sql", "--down", "1").out) == [("down from", HEAD)]
    assert at(empty_dsn) == REVISIONS[-2]
    assert command(url, "migrate_sql", "--down", str(len(REVISIONS) - 1)).status == 0
    assert at(empty_dsn) is None


def test_sql_prints_what_would_run_and_runs_nothing(empty_dsn: Dsn) -> None:
    printed = command(url_of(empty_dsn), "migrate_sql", "--sql")

    assert (printed.status, printed.err) == (0, "")
    assert at(empty_dsn) is None
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as connection:
        connection.execute(printed.out)
    assert command(url_of(empty_dsn), "migrate_sql", "--check").status == 0


def test_sql_prints_the_way_down_too(dsn: Dsn) -> None:
    printed = command(url_of(dsn), "migrate_sql", "--sql", "--down", "1")

    assert printed.status == 0
    assert "-- Running downgrade" in printed.out
    assert "UPDATE alembic_version" in printed.out
    assert "CREATE TABLE" not in printed.out
    assert at(dsn) == HEAD


def test_sql_of_no_steps_is_no_statement_that_changes_anything(dsn: Dsn) -> None:
    printed = command(url_of(dsn), "migrate_sql", "--sql")

    assert (printed.status, printed.err) == (0, "")
    assert not re.search("CREATE|DROP|ALTER|UPDATE|INSERT", printed.out)


def test_status_marks_the_steps_that_were_run(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, "0001")
    outcome = command(url_of(empty_dsn), "migrate_sql", "--status")

    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("[x] 0001 Create users and tasks")
    assert all(line.startswith("[ ] 000") for line in lines[1:-1])
    assert lines[-1] == f"The database is behind (at 0001, newest is {HEAD})."


@pytest.mark.parametrize("option", ["--status", "--check"])
def test_json_tells_a_machine_where_the_database_is(option: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "migrate_sql", option, "--json")

    assert outcome.status == 0
    assert outcome.json == {"current": HEAD, "head": HEAD, "state": "up-to-date"}


def test_check_fails_when_the_database_is_behind(empty_dsn: Dsn) -> None:
    url = url_of(empty_dsn)

    empty = command(url, "migrate_sql", "--check")
    migrator.migrate(empty_dsn, "0001")
    behind = command(url, "migrate_sql", "--check", "--json")
    migrator.migrate(empty_dsn)
    current = command(url, "migrate_sql", "--check")

    assert [outcome.status for outcome in (empty, behind, current)] == [1, 1, 0]
    assert "behind (at nothing" in empty.out
    assert behind.json == {"current": "0001", "head": HEAD, "state": "behind"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0099"], "There is no migration 0099; there are base, 0001"),
        (["--down", "0"], "--down takes the number"),
        (["--down", "-1"], "--down takes the number"),
        (["--down", "99"], f"Only {len(REVISIONS)} migrations are applied"),
        (["--down", "one"], "invalid int value"),
        (["--down"], "expected one argument"),
        (["0001", "--down", "1"], "goes with none of"),
        (["--status", "--check"], "not allowed with"),
        (["--new", ""], "a step needs a description"),
        (["--new", "..."], "a step needs a description"),
        (["--nonsense"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_end_with_status_1_and_say_why(arguments: list[str], message: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "migrate_sql", *arguments)

    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert at(dsn) == HEAD


def test_json_alone_is_refused_rather_than_migrating(empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), "migrate_sql", "--json")

    assert outcome.status == 1
    assert "--status" in outcome.err
    assert at(empty_dsn) is None


def test_a_database_of_newer_code_is_left_alone(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn)
    with psycopg.connect(empty_dsn.conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    url = url_of(empty_dsn)

    for arguments in ([], ["--down", "1"], ["0001"], ["--sql"]):
        outcome = command(url, "migrate_sql", *arguments)
        assert outcome.status == 1
        assert "9999" in outcome.err
        assert "Traceback" not in outcome.err
    status = command(url, "migrate_sql", "--check", "--json")
    assert (status.status, status.json["state"]) == (1, "unknown")
    assert at(empty_dsn) == "9999"


def test_an_unreachable_database_is_one_line_with_a_hint() -> None:
    outcome = command(f"postgresql://app:correct-horse@127.0.0.1:{free_port()}/todo", "migrate_sql")

    assert (outcome.status, outcome.out) == (1, "")
    assert "No server listens there" in outcome.err
    assert outcome.err.count("\n") == 1
    assert "correct-horse" not in outcome.err


@pytest.mark.slow
def test_several_at_once_run_each_step_once(empty_dsn: Dsn) -> None:
    environment = clean_environment() | {"ENVIRONMENT": "production", "DATABASE_URL": url_of(empty_dsn)}
    processes = [
        subprocess.Popen(
            [sys.executable, "manage.py", "migrate_sql"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [(process.returncode, err) for process, (_, err) in zip(processes, outputs, strict=True)] == [(0, "")] * 3
    assert sorted(step for out, _ in outputs for step in steps(out)) == [("up to", revision) for revision in REVISIONS]
    assert at(empty_dsn) == HEAD


def write_step(project: Path, environment: dict[str, str], description: str) -> Path:
    outcome = manage("migrate_sql", "--new", description, environment=environment, project=project)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    match = re.search(r"^Wrote (\S+); .+$", outcome.stdout, re.MULTILINE)
    assert match
    return project / "migrations" / "versions" / Path(match[1]).name


def write_upgrade(file: Path, *statements: str) -> None:
    before, _, _ = file.read_text().partition("def upgrade()")
    body = "\n    ".join(statements)
    file.write_text(f"{before}def upgrade() -> None:\n    {body}\n\n\ndef downgrade() -> None:\n    pass\n")


@pytest.mark.slow
def test_new_writes_an_empty_step_to_be_filled(empty_dsn: Dsn, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": url_of(empty_dsn)}
    file = write_step(project, environment, "Add tasks.version.")
    number = f"{len(REVISIONS) + 1:04}"

    assert file.name == f"{number}_add_tasks_version.py"
    text = file.read_text()
    assert text.startswith('"""Add tasks.version.\n')
    assert f'revision = "{number}"' in text
    assert f'down_revision = "{HEAD}"' in text

    # A step that nobody has written yet must not count as done.
    unwritten = manage("migrate_sql", environment=environment, project=project)
    assert unwritten.returncode == 1
    assert "write the step" in unwritten.stderr
    assert "Traceback" not in unwritten.stderr
    assert at(empty_dsn) == HEAD

    write_upgrade(file, 'op.execute("CREATE TABLE more (id int)")')
    migrated = manage("migrate_sql", environment=environment, project=project)
    assert steps(migrated.stdout) == [("up to", number)]


def test_new_says_only_where_the_step_is(tmp_path: Path) -> None:
    # It does not even need a database.
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": f"postgresql://app@127.0.0.1:{free_port()}/todo"}
    project = copy_project(tmp_path / "project")
    outcome = manage("migrate_sql", "--new", "add tasks.version", environment=environment, project=project)

    assert outcome.returncode == 0
    assert outcome.stdout.startswith("Wrote ")
    assert outcome.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second_statement", "said"),
    [('op.execute("CREATE TABEL typo ()")', "syntax error"), ('op.execute("SELECT 1 / 0")', "division by zero")],
)
def test_a_step_that_fails_leaves_nothing_and_is_named(
    second_statement: str, said: str, empty_dsn: Dsn, tmp_path: Path
) -> None:
    project = copy_project(tmp_path / "project")
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": url_of(empty_dsn)}
    file = write_step(project, environment, "break half-way")
    write_upgrade(file, 'op.execute("CREATE TABLE half (id int)")', second_statement)

    outcome = manage("migrate_sql", environment=environment, project=project)

    assert outcome.returncode == 1
    assert [revision for _, revision in steps(outcome.stdout)] == REVISIONS
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert f"{len(REVISIONS) + 1:04}" in outcome.stderr, "it does not say which step"
    assert at(empty_dsn) == HEAD
    with psycopg.connect(empty_dsn.conninfo) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)


@pytest.mark.slow
def test_a_step_that_is_no_python_is_one_clear_line(empty_dsn: Dsn, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": url_of(empty_dsn)}
    file = write_step(project, environment, "misspell")
    file.write_text(file.read_text() + "\ndef oops(:\n")

    outcome = manage("migrate_sql", environment=environment, project=project)

    assert outcome.returncode == 1
    assert "Traceback" not in outcome.stderr
    assert file.name in outcome.stderr
    assert at(empty_dsn) is None
