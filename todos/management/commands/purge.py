import asyncio
from typing import Any, override

from django.conf import settings

from persistence import purge, users
from persistence.postgres.database import Database
from persistence.postgres.dsn import Dsn
from todos.management.base import Command as BaseCommand
from todos.management.base import located_database, opened_database, progress

MARGIN = 300
"""Seconds on top of the life of a token: the leeway in reading its times, and clocks that differ."""


class Command(BaseCommand):
    help = (
        "Removes the marks of erased accounts that are older than any valid token, after which nothing is known of "
        "them; erases what has been in the trash for TRASH_DAYS; and removes what is kept of erased tasks after "
        "TOMBSTONE_DAYS. Run it once a day, beside servers or another purge. When it is stopped, the next one does "
        "the rest."
    )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        with located_database() as dsn:
            asyncio.run(self._purge(dsn))

    async def _purge(self, dsn: Dsn) -> None:
        async with opened_database(dsn) as database:
            marks = await users.purge(database, settings.MAX_TOKEN_LIFETIME + MARGIN)
            self.stdout.write(f"Marks of erased accounts removed: {marks}")
            trash, tombstones = settings.TRASH_DAYS, settings.TOMBSTONE_DAYS
            erased = await _purge_tasks(database, purge.TRASH, trash, "Trash")
            self.stdout.write(f"Tasks erased after {_days(trash)} in the trash: {erased}")
            removed = await _purge_tasks(database, purge.TOMBSTONES, tombstones, "Tombstones")
            self.stdout.write(f"Tombstones removed after {_days(tombstones)}: {removed}")


async def _purge_tasks(database: Database, kind: purge.Kind, days: int, label: str) -> int:
    before, purged = await purge.days_ago(database, days), 0
    total = await purge.number(database, kind, before)
    with progress(label) as show:
        async for number in purge.purge(database, kind, before):
            purged += number
            show(purged, total)
    return purged


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"
