"""A copy of the project with further revisions, and its command to apply them."""

import asyncio
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

from tests.support.servers import copy_project, manage


class Project:
    def __init__(self, folder: Path) -> None:
        self._folder = copy_project(folder)
        self._versions = self._folder / "migrations" / "versions"
        self._count = len(list(self._versions.glob("*.py")))

    def add(self, body: str) -> str:
        """Writes a revision after the newest and returns its name. The body is Python that defines both directions."""
        self._count += 1
        self.write(revision := f"{self._count:04}", body)
        return revision

    def write(self, revision: str, body: str) -> None:
        """Writes the revision again."""
        before = f"{int(revision) - 1:04}"
        head = f'"""Try it."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = "{before}"\n'
        (self._versions / f"{revision}_try_it.py").write_text(f"{head}\n\n{body}")

    async def migrate(self, url: str, *arguments: str) -> CompletedProcess[str]:
        """Runs `manage.py migrate_sql`."""
        run = partial(
            manage, environment={"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url}, wait=300
        )
        return await asyncio.to_thread(run, "migrate_sql", *arguments, project=self._folder)
