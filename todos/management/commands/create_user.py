import asyncio
from typing import Any, override
from uuid import UUID

from django.core.management.base import CommandParser

from persistence import users
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import ConstraintViolated, InvalidValue
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, located_database, opened_database


class Command(BaseCommand):
    help = "Makes a user that cannot sign in with a password, and prints the id."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the user's address; it is stored in lower case")
        parser.add_argument("--name", help="how the user is called")
        parser.add_argument("--json", action="store_true", help="print a JSON object instead of the bare id")

    @override
    def handle(self, *args: Any, email: str, name: str | None, json: bool, **options: Any) -> None:
        with located_database(direct=True) as dsn:
            user_id = asyncio.run(_create(dsn, email.strip(), name))
        if user_id is None:
            raise Error(f"There is a user with the address {email} already.")
        if json:
            self.print_json({"id": str(user_id), "email": email.strip().lower()})
        else:
            self.stdout.write(str(user_id))


async def _create(dsn: Dsn, email: str, name: str | None) -> UUID | None:
    async with opened_database(dsn) as database:
        try:
            return await users.create(database, email, name)
        except ConstraintViolated as error:
            raise Error(f"{email!r} is not an address that can be used; write it like alice@example.com.") from error
        except InvalidValue as error:
            raise Error(str(error)) from error
