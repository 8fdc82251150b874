"""The base of the management commands: one readable line for an error, exit status 0 or 1, and the database."""

import argparse
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, override

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from persistence.development.embedded_postgres import EmbeddedPostgresError
from persistence.migrator import MigrationError
from persistence.postgres.database import Database, open_database
from persistence.postgres.diagnosis import diagnose
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from persistence.postgres.options import PoolLimits


class Error(CommandError):
    """Ends a command with status 1; Django prints `Error: ` and the text."""


class Command(BaseCommand):
    """A command of this project; subclasses write `handle`."""

    # Django's checks look at settings this project does not use, and take half a second.
    requires_system_checks: tuple[str, ...] = ()

    @override
    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        for action in parser._actions:  # noqa: SLF001 - argparse has no other way to hide an inherited option
            if action.dest in ("version", "settings", "pythonpath", "skip_checks", "force_color", "no_color"):
                action.help = argparse.SUPPRESS
        return parser

    @override
    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except SystemExit as stop:
            # argparse says 2 for a misspelt option; scripts should have to know 0 and 1 only.
            raise SystemExit(1 if stop.code else 0) from None
        except KeyboardInterrupt:
            self.stderr.write("Interrupted.")
            raise SystemExit(1) from None
        except BrokenPipeError:
            # The reader of the output, such as `head`, has enough of it. Python would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None

    @override
    def execute(self, *args: Any, **options: Any) -> str | None:
        if options.get("verbosity", 1) < 2:
            # The statements of a command would bury what it says; -v 2 shows them.
            logging.getLogger("persistence").setLevel(logging.INFO)
        try:
            return super().execute(*args, **options)
        except (EmbeddedPostgresError, MigrationError, Unavailable) as error:
            raise Error(str(error)) from error
        except psycopg.errors.UndefinedTable as error:
            raise Error("The database has no tables yet, or old ones: run `manage.py migrate_sql`.") from error
        except psycopg.Error as error:
            raise Error(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error

    def print_json(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, indent=2))


@contextmanager
def located_database() -> Iterator[Dsn]:
    """The address of the database. Raises `Error` with a hint if the block cannot reach it."""
    with settings.DATABASE_LOCATION.running() as dsn:
        try:
            yield dsn
        except psycopg.OperationalError as error:
            raise unreachable(error, dsn) from error


@asynccontextmanager
async def opened_database(dsn: Dsn) -> AsyncIterator[Database]:
    """The database with a pool as small as a command needs. Raises `Error` with a hint."""
    options = replace(settings.DATABASE_OPTIONS, limits=PoolLimits(min_size=1, max_size=2))
    try:
        async with open_database(dsn, options) as database:
            yield database
    except psycopg.OperationalError as error:
        raise unreachable(error, dsn) from error


def unreachable(error: psycopg.OperationalError, dsn: Dsn) -> Error:
    return Error(f"No connection to the database {dsn}: {diagnose(error)}")
