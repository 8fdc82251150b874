import asyncio
import sys
from typing import Any, override
from uuid import UUID

from django.core.management.base import CommandParser

from persistence import users
from persistence.postgres.dsn import Dsn
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, found_user, located_database, opened_database, timestamp


class Command(BaseCommand):
    help = (
        "Erases a user: all tasks, the address and the name. A mark with the id alone is left, so that a token that is "
        "still valid brings nothing back; purge removes it later."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="the user's id or address")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    @override
    def handle(self, *args: Any, user: str, yes: bool, **options: Any) -> None:
        if not yes and not sys.stdin.isatty():
            raise Error("There is no terminal to ask at; with --yes it erases without a question.")
        with located_database(direct=True) as dsn:
            user_id, account = asyncio.run(_look_up(dsn, user))
            if account.is_erased and account.created_at:
                self.stdout.write(f"User {user_id} was erased already, at {timestamp(account.created_at)}.")
            elif yes or _agrees(f"Erase user {user_id} with {_tasks(account.total)} for good? [y/N] "):
                number = asyncio.run(_erase(dsn, user_id))
                self.stdout.write(f"User {user_id} and {_tasks(number)} are erased.")
            else:
                raise Error("Nothing was erased.")


def _tasks(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


async def _look_up(dsn: Dsn, user: str) -> tuple[UUID, users.Account]:
    async with opened_database(dsn) as database:
        user_id = await found_user(database, user)
        return user_id, await users.account(database, user_id)


async def _erase(dsn: Dsn, user_id: UUID) -> int:
    async with opened_database(dsn) as database:
        return await users.erase(database, user_id)
