"""Fixtures for tests that change a database, its schema or its migrations."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config

from persistence import history
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import Admin, options
from tests.support.databases import as_owner
from tests.support.servers import ROOT


@pytest.fixture
def admin(request: pytest.FixtureRequest) -> Iterator[Admin]:
    """A connection to the database that the test has for itself, `migrated_dsn` or `empty_dsn`."""
    name = "migrated_dsn" if "migrated_dsn" in request.fixturenames else "empty_dsn"
    with psycopg.connect(as_owner(request.getfixturevalue(name)).conninfo, autocommit=True) as connection:
        yield Admin(connection)


@pytest.fixture
async def single(empty_dsn: Dsn) -> AsyncIterator[Database]:
    """A database with one connection."""
    async with open_database(empty_dsn, options(most=1)) as database:
        yield database


class MigrationFiles:
    """A copy of the project's migrations, which a test may add revisions to."""

    def __init__(self, root: Path) -> None:
        self.versions = root / "migrations" / "versions"
        shutil.copytree(ROOT / "migrations", root / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)

    def add(self, upgrade: str, downgrade: str = "pass") -> str:
        """Writes a revision after the newest, of one line of Python each way, and returns its number."""
        number = len(list(self.versions.glob("*.py")))
        revision = f"{number + 1:04}"
        (self.versions / f"{revision}_try_it.py").write_text(
            f'"""Try it."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = "{number:04}"\n\n\n'
            f"def upgrade() -> None:\n    {upgrade}\n\n\ndef downgrade() -> None:\n    {downgrade}\n"
        )
        return revision


@pytest.fixture
def files(tmp_path: Path) -> MigrationFiles:
    return MigrationFiles(tmp_path)


@pytest.fixture
def revisions(files: MigrationFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MigrationFiles]:
    """The copy, which the migrator uses instead of the files beside its own: no setting names another place."""
    monkeypatch.setattr(history, "config", lambda: Config(toml_file=tmp_path / "pyproject.toml"))
    history.revisions.cache_clear()
    yield files
    history.revisions.cache_clear()
