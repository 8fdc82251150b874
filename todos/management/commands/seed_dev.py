import asyncio
from typing import Any, override

from django.conf import settings
from django.core.management.base import CommandParser

from persistence.development import bulk
from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from todos import seed
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, located_database, opened_database, progress


class Command(BaseCommand):
    help = (
        f"Makes the development data: {seed.EMAIL} with the password {seed.PASSWORD} and five tasks. "
        "Run it as often as you like; it makes only what is missing. Refused in production."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--users", type=int, metavar="N", help="also make N users for load tests (with --tasks)")
        parser.add_argument("--tasks", type=int, metavar="M", help="also make M tasks in all, spread over the N users")

    @override
    def handle(self, *args: Any, users: int | None, tasks: int | None, **options: Any) -> None:
        if settings.IS_PRODUCTION:
            raise Error("seed_dev makes a user whose password is public, so it refuses to run in production.")
        if (users is None) != (tasks is None):
            raise Error("--users and --tasks go together.")
        if users is not None and tasks is not None and (users < 1 or tasks < 0):
            raise Error("--users must be at least 1, and --tasks at least 0.")
        with located_database(direct=True) as dsn:
            asyncio.run(self._seed(dsn, users, tasks))

    async def _seed(self, dsn: Dsn, users: int | None, tasks: int | None) -> None:
        async with opened_database(dsn) as database:
            seeded = await seed.seed(database)
            self.stdout.write(f"User {seed.EMAIL} {'made' if seeded.made_user else 'was there'}: {seeded.user_id}")
            for title in seeded.made_tasks:
                self.stdout.write(f"Task made: {title}")
            if not seeded.made_tasks:
                self.stdout.write("All five tasks were there.")
            if users is not None and tasks is not None:
                await self._fill(database, users, tasks)

    async def _fill(self, database: Database, users: int, tasks: int) -> None:
        made = 0
        with progress("Load data") as show:
            async for count in bulk.fill(database, users, tasks):
                made += count
                show(made, tasks)
        self.stdout.write(f"{made} tasks made; {users} users have {tasks} in all.")
