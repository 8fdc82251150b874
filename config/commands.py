"""The commands of `manage.py`: those of this project, and of Django's those that are of use here."""

import sys
from typing import Any, override

from django.core.management import ManagementUtility, get_commands

OURS = ("todos", "web")
# Django's `runserver` shows what is wrong when ours cannot be imported.
KEPT = ("check", "runserver", "shell")
INSTEAD = {
    "createsuperuser": "manage.py create_user",
    "dbshell": "psql",
    "dumpdata": "pg_dump",
    "export_openapi_schema": "manage.py export_openapi",
    "flush": "manage.py migrate_sql base, which drops all tables, and manage.py migrate_sql",
    "inspectdb": "psql",
    "loaddata": "manage.py seed_dev",
    "makemigrations": "manage.py migrate_sql --new DESCRIPTION",
    "migrate": "manage.py migrate_sql",
    "showmigrations": "manage.py migrate_sql --status",
    "sqlmigrate": "manage.py migrate_sql --sql",
    "test": "make test",
    "testserver": "manage.py runserver --seed",
}
"""What to use for commands that people expect of Django, which need its ORM or its tests."""


class Commands(ManagementUtility):
    """Django's command line without the commands that need its ORM, or for which there is no use here."""

    @override
    def fetch_command(self, subcommand: str) -> Any:
        if subcommand in INSTEAD:
            sys.exit(f"Error: Django's {subcommand} does not work here; use {INSTEAD[subcommand]}.")
        if subcommand in _others():
            sys.exit(f"Error: Django's {subcommand} is not used here; `manage.py help` lists the commands.")
        return super().fetch_command(subcommand)

    @override
    def main_help_text(self, commands_only: bool = False) -> str:
        # The dictionary is the one that Django lists. After that the process ends.
        for name in _others():
            del get_commands()[name]
        return super().main_help_text(commands_only)


def _others() -> list[str]:
    return [name for name, app in get_commands().items() if app not in OURS and name not in KEPT]
