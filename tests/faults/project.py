"""A copy of the project that has further steps, and its command to run them."""

import asyncio
from pathlib import Path

from tests.support.servers import Outcome, copy_project, manage


class Project:
    def __init__(self, folder: Path) -> None:
        self._folder = copy_project(folder)
        self._versions = self._folder / "migrations" / "versions"
        self._steps = len(list(self._versions.glob("*.py")))

    def add(self, body: str) -> str:
        """Writes a step after the newest and returns its revision; the body is Python that defines both ways."""
        self._steps += 1
        self.write(revision := f"{self._steps:04}", body)
        return revision

    def write(self, revision: str, body: str) -> None:
        """Writes the step anew."""
        before = f"{int(revision) - 1:04}"
        head = f'"""Try it."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = "{before}"\n'
        (self._versions / f"{revision}_try_it.py").write_text(f"{head}\n\n{body}")

    async def migrate(self, url: str, *arguments: str) -> Outcome:
        """Runs `manage.py migrate_sql`."""
        environment = {"ENVIRONMENT": "production", "DATABASE_URL": url}
        done = await asyncio.to_thread(
            manage, "migrate_sql", *arguments, environment=environment, project=self._folder, wait=300
        )
        return Outcome(done.returncode, done.stdout, done.stderr)
