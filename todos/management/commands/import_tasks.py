import asyncio
from pathlib import Path
from typing import Any, cast, override

from django.conf import settings
from django.core.management.base import CommandParser

from persistence.postgres.dsn import Dsn
from todos.errors import InvalidInput, Problem
from todos.imports import PARSERS, ImportFormat, import_file
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, found_user, located_database, opened_database, progress


class Command(BaseCommand):
    help = (
        "Imports the tasks of a file, each on its own, as POST /api/{user_id}/import does, and without its limits. The "
        "same file again imports only what was refused."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="the user's id or address")
        parser.add_argument("file", metavar="FILE", help="the file")
        parser.add_argument(
            "--format", choices=[*PARSERS], default="jsonl", help="the form of the file; default: jsonl"
        )
        parser.add_argument("--dry-run", action="store_true", help="write nothing, and say what would be done")

    @override
    def handle(self, *args: Any, user: str, file: str, dry_run: bool, **options: Any) -> None:
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise Error(f"{file} cannot be read: {error.strerror}.") from error
        form = cast("ImportFormat", options["format"])
        try:
            with located_database(direct=True) as dsn:
                result = asyncio.run(_import(dsn, user, form, content, dry_run=dry_run))
        except InvalidInput as error:
            raise Error(error.errors[0]["detail"]) from error
        except Problem as error:
            raise Error(error.detail) from error
        for line in result["lines"]:
            for said in (*(f"{each['field']}: {each['detail']}" for each in line["errors"]), *line["notes"]):
                self.stdout.write(f"Line {line['line']}, {line['status']}: {said}")
        would = "Would be " if dry_run else ""
        counts = ", ".join(f"{result[name]} {name}" for name in ("imported", "known", "deleted", "refused"))
        self.stdout.write(f"{would}{counts}".capitalize() + ".")
        if result["refused"]:
            raise Error(f"Not all tasks were imported: {result['refused']} were refused.")


async def _import(dsn: Dsn, user: str, form: ImportFormat, content: bytes, *, dry_run: bool) -> dict[str, Any]:
    async with opened_database(dsn) as database:
        user_id = await found_user(database, user)
        with progress("Import") as counted:
            return await import_file(
                database, user_id, form, content,
                dry_run=dry_run, user_tasks_max=settings.USER_TASKS_MAX, tasks_max=None, counted=counted,
            )  # fmt: skip
