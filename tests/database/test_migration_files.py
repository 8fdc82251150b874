"""The files of the revisions: their numbers, a new one from the template, and Alembic's own command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from persistence import migrator
from persistence.migrator import MigrationError
from persistence.postgres.dsn import Dsn
from tests.database.conftest import MigrationFiles
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, url_of

REVISIONS = list(migrator.revisions())
FILES = sorted((ROOT / "migrations" / "versions").glob("*.py"))
NEXT = f"{len(FILES) + 1:04}"


def test_the_revisions_are_numbered_without_a_gap_and_each_says_what_it_does() -> None:
    assert [f"{number:04}" for number in range(1, len(FILES) + 1)] == REVISIONS
    for file, (revision, description) in zip(FILES, migrator.revisions().items(), strict=True):
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
    migrator.revisions.cache_clear()
    assert migrator.head() == NEXT
    assert migrator.revisions()[NEXT] == "Add tasks.colour"
    # A file that its author has not filled in cannot be applied.
    with pytest.raises(MigrationError, match=f"Revision {NEXT} .*write the step"):
        migrator.migrate(empty_dsn)


@pytest.mark.parametrize("description", ["", "  ", "!?", 'Say """hello"""', 'Say "hello"', "Move C:\\users\\N"])
def test_a_new_revision_needs_a_description_that_its_file_can_hold(revisions: MigrationFiles, description: str) -> None:
    with pytest.raises(MigrationError, match="needs a description without quotes and backslashes"):
        migrator.new(description)

    assert len(list(revisions.versions.glob("*.py"))) == len(FILES)


@pytest.mark.parametrize("description", ["Add ${this}", "Zähle", "Drop 'it'", "x" * 100])
def test_a_new_revision_with_an_odd_description_can_be_read(revisions: MigrationFiles, description: str) -> None:
    migrator.new(description)
    migrator.revisions.cache_clear()

    assert migrator.revisions()[NEXT] == description


def alembic(root: Path, dsn: Dsn, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "alembic", *arguments],
        cwd=root,
        env=clean_environment() | {"DATABASE_URL": url_of(dsn), "ENVIRONMENT": "development", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_autogenerate_is_refused_with_what_to_do_instead(dsn: Dsn, files: MigrationFiles, tmp_path: Path) -> None:
    refused = alembic(tmp_path, dsn, "revision", "--autogenerate", "-m", "try it")

    assert refused.returncode != 0
    assert 'manage.py migrate_sql --new "describe it"' in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(file.name for file in files.versions.glob("*.py")) == [file.name for file in FILES]


@pytest.mark.usefixtures("files")
def test_alembics_own_command_finds_the_database_in_the_settings(empty_dsn: Dsn, tmp_path: Path) -> None:
    done = alembic(tmp_path, empty_dsn, "upgrade", "head")

    assert done.returncode == 0, done.stderr
    assert migrator.current(empty_dsn) == migrator.head()
