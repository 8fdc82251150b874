from typing import Any, override

from django.conf import settings
from django.core.management.base import CommandParser

from persistence import grants
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, located_database


class Command(BaseCommand):
    help = (
        "Gives a role the rights that the server needs, and takes all others in this database from it. Run it as the "
        "owner of the tables (DATABASE_URL_DIRECT) after migrate_sql, as often as you like."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", metavar="ROLE", help="the role in the server's DATABASE_URL")
        parser.add_argument("--sql", action="store_true", help="print the SQL instead of running it")

    @override
    def handle(self, *args: Any, role: str, sql: bool, **options: Any) -> None:
        timeout = settings.DATABASE_OPTIONS.connect_timeout
        with located_database(direct=True) as dsn:
            try:
                if sql:
                    lines = ["BEGIN", *grants.statements(dsn, role, timeout), "COMMIT"]
                    self.stdout.write("".join(f"{line};\n" for line in lines))
                    return
                excess = grants.grant(dsn, role, timeout)
            except grants.GrantError as error:
                raise Error(str(error)) from error
        self.stdout.write(f"{role} has all rights that the server needs{'' if excess else ', and no others'}.")
        if excess:
            self.stdout.write("It also has these, which this command does not take away (docs/database.md, Rights):")
            for right in excess:
                self.stdout.write(f"  {right}")
