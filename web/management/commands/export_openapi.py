import json
from pathlib import Path
from typing import Any, override

from django.conf import settings
from django.core.management.base import CommandParser

from todos.management.base import Command as BaseCommand
from todos.management.base import Error

DEFAULT_FILE = Path("docs/openapi.json")


class Command(BaseCommand):
    help = "Writes the OpenAPI document, from which clients are generated. Needs no database."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", nargs="?", type=Path, metavar="FILE", help="default: docs/openapi.json; - prints it"
        )

    @override
    def handle(self, *args: Any, file: Path | None, **options: Any) -> None:
        try:
            # Django imports every command to list them, and the endpoints take long.
            from web.api import api

            document = api.get_openapi_schema()
        except TypeError as error:
            raise Error(f"The document is not complete: {error}.") from error
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if file == Path("-"):
            self.stdout.write(text, ending="")
            return
        target = file or settings.BASE_DIR / DEFAULT_FILE
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Error(f"Cannot write {target}: {error.strerror}.") from error
        self.stdout.write(f"Wrote {target}.")
