"""Writes the output that the console sessions of the documentation have now into its pages: `make record-docs`.

`ARGS="README.md docs/api.md"` records these pages only. A page that differs only in ids, times and versions stays as it
is.
"""

import re
import sys
import tempfile
from pathlib import Path

from tests.support.better_auth import MISSING, URL, signed_in_site
from tests.support.servers import ROOT, PostgresServer, WebServer, copy_project, manage
from tests.support.transcripts import API_URL, comparable, has_sessions, replacements, replayed

AUTHENTICATION = "docs/authentication.md"
"""Its sessions ask Better Auth, too."""


def recorded(name: str, page: str, folder: Path) -> str:
    """The page as it is now, with a server and a database as its sessions expect them."""
    project = copy_project(folder / "project")
    if name == "docs/configuration.md":
        return replayed(page, {}, project, settings={})
    with PostgresServer(folder / "postgres") as server:
        settings = {"ENVIRONMENT": "development", "DATABASE_URL": server.url}
        with server.administrator() as administrator:
            administrator.execute("CREATE ROLE todo_server LOGIN")
        if name == "docs/database.md":
            return replayed(page, {}, project, settings)
        manage("migrate_sql", environment=settings, project=project).check_returncode()
        if name == AUTHENTICATION:
            with signed_in_site(server.dsn, folder) as site:
                return replayed(page, {API_URL: site.web.url, URL: site.auth.url}, project, settings)
        [user] = re.findall("[0-9a-f-]{36}", manage("seed_dev", environment=settings, project=project).stdout)
        with WebServer(
            folder, settings | {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "REQUEST_TIMEOUT": "60"}
        ) as web:
            return replayed(page, replacements(page, web.url, user), project, settings)


def main() -> None:
    every_page = [file.relative_to(ROOT).as_posix() for file in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))]
    for name in sys.argv[1:] or every_page:
        file = ROOT / name
        page = file.read_text(encoding="utf-8")
        if not has_sessions(page):
            continue
        sys.stdout.write(f"{name}: ")
        sys.stdout.flush()
        if name == AUTHENTICATION and MISSING:
            sys.stdout.write(f"left as it is, as {MISSING} is not installed\n")
            continue
        with tempfile.TemporaryDirectory() as folder:
            now = recorded(name, page, Path(folder))
        is_current = comparable(now) == comparable(page)
        if not is_current:
            file.write_text(now, encoding="utf-8")
        sys.stdout.write(f"{'current' if is_current else 'recorded'}\n")


if __name__ == "__main__":
    main()
