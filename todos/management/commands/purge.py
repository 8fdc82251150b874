import asyncio
from typing import Any, override

from django.conf import settings

from persistence import users
from persistence.postgres.dsn import Dsn
from todos.management.base import Command as BaseCommand
from todos.management.base import located_database, opened_database

MARGIN = 300
"""Seconds on top of the life of a token: the leeway in reading its times, and clocks that differ."""


class Command(BaseCommand):
    help = (
        "Removes the marks of erased accounts that are older than any valid token, after which nothing is known of "
        "them. Run it once a day."
    )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        with located_database() as dsn:
            number = asyncio.run(_purge(dsn))
        self.stdout.write(f"Marks of erased accounts removed: {number}")


async def _purge(dsn: Dsn) -> int:
    async with opened_database(dsn) as database:
        return await users.purge(database, settings.MAX_TOKEN_LIFETIME + MARGIN)
