import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, cast, override

from django.core.management.base import CommandParser

from persistence import transfers
from persistence.postgres.dsn import Dsn
from todos.exports import FORMATS, ExportFormat, exported
from todos.management.base import Command as BaseCommand
from todos.management.base import found_user, located_database, opened_database, progress


class Command(BaseCommand):
    help = "Writes all tasks of a user to a file, or to the standard output, as GET /api/{user_id}/export does."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="the user's id or address")
        parser.add_argument(
            "--format", choices=[*FORMATS], default="jsonl", help="the form of the file; default: jsonl"
        )
        parser.add_argument("--output", metavar="FILE", help="the file, which is replaced when all has been written")

    @override
    def handle(self, *args: Any, user: str, output: str | None, **options: Any) -> None:
        form = cast("ExportFormat", options["format"])
        with located_database(direct=True) as dsn:
            if output is None:
                asyncio.run(_export(dsn, user, form, partial(self.stdout.write, ending="")))
                return
            part = Path(f"{output}.part")
            try:
                with part.open("w", encoding="utf-8", newline="") as file:
                    number = asyncio.run(_export(dsn, user, form, file.write))
                part.replace(output)
            finally:
                part.unlink(missing_ok=True)
        self.stdout.write(f"Tasks exported: {number}")


async def _export(dsn: Dsn, user: str, form: ExportFormat, write: Callable[[str], object]) -> int:
    format_, done = FORMATS[form], 0
    async with opened_database(dsn) as database:
        user_id = await found_user(database, user)
        total = await transfers.number(database, user_id, with_trash=format_.has_trash)
        with progress("Export") as counted:

            def count(number: int) -> None:
                nonlocal done
                done += number
                counted(done, total)

            async with aclosing(exported(database, user_id, format_, count)) as pieces:
                async for piece in pieces:
                    write(piece.decode())
    return done
