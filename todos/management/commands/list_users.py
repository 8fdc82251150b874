import asyncio
import json as json_format
from typing import Any, override

from django.core.management.base import CommandParser

from persistence import users
from persistence.postgres.dsn import Dsn
from todos.management.base import Command as BaseCommand
from todos.management.base import located_database, opened_database, timestamp

LINE = "{:36}  {:27}  {:>7}  {}"


class Command(BaseCommand):
    help = "Lists all users, the oldest first, with the number of their tasks. A user that signs in has no address."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON object in each line")
        parser.add_argument("--erased", action="store_true", help="list the marks of erased accounts instead")

    @override
    def handle(self, *args: Any, json: bool, erased: bool, **options: Any) -> None:
        with located_database(direct=True) as dsn:
            asyncio.run(self._list(dsn, erased=erased, json=json))

    async def _list(self, dsn: Dsn, *, erased: bool, json: bool) -> None:
        async with opened_database(dsn) as database:
            if not json:
                self.stdout.write(LINE.format("id", "erased" if erased else "created", "tasks", "e-mail"))
            async for user in users.listed(database, erased=erased):
                user_id, created_at = str(user.id), timestamp(user.created_at)
                if json:
                    shown = {"id": user_id, "email": user.email, "created_at": created_at, "tasks": user.tasks}
                    self.stdout.write(json_format.dumps(shown))
                else:
                    self.stdout.write(LINE.format(user_id, created_at, user.tasks, user.email or "-"))
