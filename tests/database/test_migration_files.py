"""The files of the revisions: their numbers, a new one from the template, and one that fails."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import main as alembic_command

from config import env
from persistence import history, migrator
from persistence.history import MigrationError
from persistence.migrator import RevisionRun
from persistence.postgres.dsn import Dsn
from tests.database.conftest import MigrationFiles
from tests.database.test_migrations import REVISIONS, schema_of
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, url_of

FILES = sorted((ROOT / "migrations" / "versions").glob("*.py"))
NEXT = f"{len(FILES) + 1:04}"
FAILED = f"Revision {int(NEXT) + 1:04} (Try it) failed: "
LOST = f"Revision {int(NEXT) + 1:04} (Try it) may be applied or not, as the connection was lost: terminating connection"

# A deferred constraint is checked at the commit, and a deferred trigger runs in it.
REFUSED_AT_THE_COMMIT = """
CREATE TABLE pages (note int REFERENCES notes DEFERRABLE INITIALLY DEFERRED);
INSERT INTO pages VALUES (1);
"""
COMMIT_WITHOUT_AN_ANSWER = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();
INSERT INTO notes VALUES (1);
"""


def test_the_revisions_are_numbered_without_a_gap_and_each_says_what_it_does() -> None:
    assert [f"{number:04}" for number in range(1, len(FILES) + 1)] == REVISIONS
    for file, (revision, description) in zip(FILES, history.revisions().items(), strict=True):
        assert file.name.startswith(f"{revision}_")
        # The file's name is the description, or its most important words.
        assert set(file.stem.split("_")[1:]) <= set(re.findall(r"\w+", description.lower()))
        assert file.read_text().startswith('"""')


def test_a_new_revision_is_a_numbered_file_that_says_what_to_think_of(
    revisions: MigrationFiles, empty_dsn: Dsn
) -> None:
    path = migrator.new("Add tasks.colour.")
    assert path == revisions.versions / f"{NEXT}_add_tasks_colour.py"
    written = path.read_text()
    assert written.startswith('"""Add tasks.colour.\n')
    assert re.search(f"^revision = .{NEXT}.$", written, re.MULTILINE)
    assert re.search(f"^down_revision = .{REVISIONS[-1]}.$", written, re.MULTILINE)
    assert "lock_timeout" in written
    assert "CONCURRENTLY" in written
    history.revisions.cache_clear()
    assert history.head() == NEXT
    assert history.revisions()[NEXT] == "Add tasks.colour"
    # A file that its author has not filled in cannot be applied.
    with pytest.raises(MigrationError, match=f"Revision {NEXT} .*failed: syntax error .*, in: write the migration"):
        migrator.migrate(empty_dsn)


def test_a_new_revision_passes_the_checks_as_it_is(revisions: MigrationFiles, tmp_path: Path) -> None:
    path = migrator.new("Add tasks.colour")
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, str(path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("description", ["", "  ", "!?", 'Say """hello"""', 'Say "hello"', "Move C:\\users\\N"])
def test_a_new_revision_needs_a_description_that_its_file_can_hold(revisions: MigrationFiles, description: str) -> None:
    with pytest.raises(MigrationError, match="needs a description without quotes and backslashes"):
        migrator.new(description)
    assert len(list(revisions.versions.glob("*.py"))) == len(FILES)


@pytest.mark.parametrize("description", ["Add ${this}", "Zähle", "Drop 'it'", "x" * 100])
def test_a_new_revision_with_an_odd_description_can_be_read(revisions: MigrationFiles, description: str) -> None:
    migrator.new(description)
    history.revisions.cache_clear()
    assert history.revisions()[NEXT] == description


def test_autogenerate_is_refused_with_what_to_do_instead(
    dsn: Dsn, files: MigrationFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(env, "env", env.load(_env_file=None, environment="development", database_url=url_of(dsn)))
    # The command in this process, as a process of its own would take a second to start.
    with pytest.raises(SystemExit) as refused:
        alembic_command(["revision", "--autogenerate", "-m", "try it"])
    assert refused.value.code != 0
    assert 'manage.py migrate_sql --new "describe it"' in "".join(capsys.readouterr())
    assert sorted(file.name for file in files.versions.glob("*.py")) == [file.name for file in FILES]


@pytest.mark.usefixtures("files")
def test_alembics_own_command_finds_the_database_in_the_settings(empty_dsn: Dsn, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": url_of(empty_dsn), "ENVIRONMENT": "development", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [f"{Path(sys.executable).parent}/alembic", "upgrade", "head"],
        cwd=tmp_path, env=clean_environment() | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert migrator.current(empty_dsn) == history.head()


@pytest.mark.parametrize(
    ("upgrade", "message"),
    [
        ("op.execute('ALTER TABLE nowhere   ADD x text')",
         FAILED + 'relation "nowhere" does not exist, in: ALTER TABLE nowhere ADD x text'),
        ("op.execute('CREATE TABEL x ()')", FAILED + 'syntax error at or near "TABEL", in: CREATE TABEL x ()'),
        ('raise NotImplementedError("write the migration")', FAILED + "NotImplementedError: write the migration"),
        ("op.drop_everything()", FAILED + "AttributeError: "),
        ("no_such_name", FAILED + "NameError: "),
        ("op.get_bind().scalar(1)", FAILED + "ObjectNotExecutableError: "),
        (f"op.execute({REFUSED_AT_THE_COMMIT!r})", FAILED + 'insert or update on table "pages" violates foreign key'),
        ("op.execute('SELECT pg_terminate_backend(pg_backend_pid())')", LOST),
        (f"op.execute({COMMIT_WITHOUT_AN_ANSWER!r})", LOST),
    ],
)  # fmt: skip
def test_a_revision_that_fails_leaves_nothing_and_the_message_names_it_and_the_reason(
    empty_dsn: Dsn, revisions: MigrationFiles, upgrade: str, message: str
) -> None:
    revisions.add("op.execute('CREATE TABLE notes (id int PRIMARY KEY)')")
    revisions.add(f"op.execute('CREATE TABLE halves ()'); {upgrade}")
    revisions.add("op.execute('CREATE TABLE never ()')")
    reported: list[RevisionRun] = []
    with pytest.raises(MigrationError) as failure:
        migrator.migrate(empty_dsn, report=reported.append)
    assert str(failure.value).startswith(message)
    assert "\n" not in str(failure.value)
    # Each revision is a transaction of its own, so the one before it stays.
    assert [run.revision for run in reported] == [*REVISIONS, NEXT]
    assert migrator.current(empty_dsn) == NEXT
    assert {name for name in schema_of(empty_dsn) if name.startswith("relation ") and "_" not in name} == {
        "relation users", "relation tasks", "relation notes",
    }  # fmt: skip


def test_a_revision_that_cannot_be_taken_back_stays_whole_and_is_named(
    empty_dsn: Dsn, revisions: MigrationFiles
) -> None:
    way_back = "op.execute('DROP TABLE notes'); op.execute('DROP nothing')"
    broken = revisions.add("op.execute('CREATE TABLE notes ()')", way_back)
    migrator.migrate(empty_dsn)
    before = schema_of(empty_dsn)
    with pytest.raises(MigrationError, match=rf"^Revision {broken} \(Try it\) failed: syntax error"):
        migrator.migrate(empty_dsn, "base")
    assert schema_of(empty_dsn) == before
    assert migrator.current(empty_dsn) == broken


def refusal(ask: Callable[[], object]) -> str:
    """The message, in one line, of a history that cannot be told."""
    history.revisions.cache_clear()
    with pytest.raises(MigrationError) as failure:
        ask()
    assert "\n" not in str(failure.value)
    return str(failure.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("pass\n", "op.execute('unfinished\n", ", line 10 cannot be read: unterminated string"),
        ("from alembic import op", "import nowhere", " cannot be read: No module named 'nowhere'"),
        ("from alembic import op", "nowhere()", " cannot be read: name 'nowhere' is not defined"),
        ("from alembic import op", "raise ValueError('a\\nb')", " cannot be read: a b"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    empty_dsn: Dsn, revisions: MigrationFiles, old: str, new: str, reason: str
) -> None:
    file = revisions.versions / f"{revisions.add('pass')}_try_it.py"
    file.write_text(file.read_text().replace(old, new, 1))
    assert refusal(lambda: migrator.migrate(empty_dsn)).startswith(f"{file.name}{reason}")
    assert schema_of(empty_dsn) == {}


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        # Alembic would run one of the two with this number and never the other.
        (f"{FILES[-1].stem}_again.py", (REVISIONS[-1], REVISIONS[-2])),
        (f"{NEXT}_try_it.py", (REVISIONS[-1], REVISIONS[-2])),
        # Two newest revisions.
        (f"{NEXT}_try_it.py", (NEXT, REVISIONS[-2])),
        # The one before it is missing.
        (f"{NEXT}_try_it.py", (NEXT, "0777")),
        (f"{NEXT}_try_it.py", (NEXT, None)),
        (f"{int(NEXT) + 1:04}_try_it.py", (f"{int(NEXT) + 1:04}", REVISIONS[-1])),
        # As `alembic revision` writes it.
        ("d4bb1b3a0f0c_try_it.py", ("d4bb1b3a0f0c", REVISIONS[-1])),
        ("try_it.py", (NEXT, REVISIONS[-1])),
    ],
)
def test_files_that_do_not_follow_one_another_are_named_whatever_is_asked(
    empty_dsn: Dsn, revisions: MigrationFiles, name: str, claims: tuple[str, str | None]
) -> None:
    last = FILES[-1].name
    (revisions.versions / name).write_text(
        f"revision, down_revision = {claims}\n\n\ndef upgrade() -> None: ...\n\n\ndef downgrade() -> None: ...\n"
    )
    message = f"{name} does not follow {last}: its name has to begin with {NEXT}_, and it needs"
    for ask in (history.head, lambda: migrator.migrate(empty_dsn), lambda: migrator.new("Add tasks.colour"),
                lambda: migrator.sql(None, "head"), lambda: history.state(None)):  # fmt: skip
        assert refusal(ask).startswith(message)
    assert schema_of(empty_dsn) == {}


def test_a_gap_and_no_files_at_all_are_named(revisions: MigrationFiles) -> None:
    second = next(revisions.versions.glob("0002_*"))
    second.unlink()
    third = next(revisions.versions.glob("0003_*"))
    assert refusal(history.head).startswith(f"{third.name} does not follow {FILES[0].name}: ")
    for file in revisions.versions.glob("*.py"):
        file.unlink()
    assert refusal(history.head) == f"There are no revisions in {revisions.versions}"


def test_alembics_own_command_refuses_them_in_a_line(
    empty_dsn: Dsn, revisions: MigrationFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    settings = {"environment": "development", "database_url": url_of(empty_dsn)}
    monkeypatch.setattr(env, "env", env.load(_env_file=None, **settings))
    shutil.copy(FILES[-1], revisions.versions / f"{NEXT}_again.py")
    history.revisions.cache_clear()
    with pytest.raises(SystemExit):
        alembic_command(["upgrade", "head"])
    assert f"FAILED: {NEXT}_again.py does not follow {FILES[-1].name}" in "".join(capsys.readouterr())
    assert schema_of(empty_dsn) == {}
