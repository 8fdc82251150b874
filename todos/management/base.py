"""The base of the management commands: one readable line for an error, exit status 0 or 1, and the database."""

import argparse
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, override
from uuid import UUID

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import DBAPIError

from persistence import users
from persistence.development.embedded_postgres import EmbeddedPostgresError
from persistence.history import MigrationError
from persistence.postgres.database import Database, open_database
from persistence.postgres.diagnosis import diagnose
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import (
    ConstraintViolated,
    DeadlineExceeded,
    InvalidValue,
    OutcomeUnknown,
    Unavailable,
    cause_of,
)
from persistence.postgres.options import PoolLimits

TIMEOUT = 60.0
"""Seconds for one transaction of a command, whatever a request may take."""

ERRORS = (
    EmbeddedPostgresError,
    MigrationError,
    Unavailable,
    ConstraintViolated,
    InvalidValue,
    psycopg.Error,
    DBAPIError,
)
"""What can go wrong with a database."""


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
        except ERRORS as error:
            raise as_command_error(error) from error

    def print_json(self, document: Any) -> None:
        self.stdout.write(json.dumps(document, indent=2))


def timestamp(moment: datetime) -> str:
    """The form in which the API writes it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


@contextmanager
def located_database(*, direct: bool = False) -> Iterator[Dsn]:
    """The address of the database. Raises `Error` with a hint if the block cannot reach it.

    With `direct` it is that of `DATABASE_URL_DIRECT`, for what needs the role that owns the tables.
    """
    with (settings.DATABASE_LOCATION_DIRECT if direct else settings.DATABASE_LOCATION).running() as dsn:
        try:
            yield dsn
        except psycopg.OperationalError as error:
            raise unreachable(error, dsn) from error


@asynccontextmanager
async def opened_database(dsn: Dsn) -> AsyncIterator[Database]:
    """The database with a pool as small as a command needs; to be used inside of `located_database`."""
    options = replace(settings.DATABASE_OPTIONS, limits=PoolLimits(min_size=1, max_size=2), statement_timeout=TIMEOUT)
    async with open_database(dsn, options) as database:
        yield database


async def found_user(database: Database, user: str) -> UUID:
    """The id of the user that an operator has named by id or address; an id need not be that of a user."""
    user = user.strip()
    if "@" not in user:
        try:
            return UUID(user)
        except ValueError as error:
            raise Error(f"{user!r} is neither an id nor an address.") from error
    user_id = await users.find(database, user)
    if user_id is None:
        raise Error(
            f"There is no user with the address {user}. A user who signs in at an issuer has none here; name such "
            "a user by id."
        )
    return user_id


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar at a terminal. It hands over a function that sets it to so many of so many."""
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The standard output may be a file, to which rich would print the bar once, at the end.
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def as_command_error(error: BaseException) -> Error:
    """An error of a command, or one of `ERRORS`, in a line with a hint."""
    if isinstance(error, Error):
        return error
    if isinstance(error, MigrationError | DeadlineExceeded | OutcomeUnknown):
        # The first names the revision and the statement. Of the others PostgreSQL only says that it was cancelled.
        return Error(str(error))
    cause = error if isinstance(error, psycopg.Error) else cause_of(error)
    return Error(str(diagnose(cause) if cause else error))


def unreachable(error: psycopg.OperationalError, dsn: Dsn) -> Error:
    if error.sqlstate:
        # The server has answered.
        return as_command_error(error)
    return Error(f"No connection to the database {dsn}: {diagnose(error)}")
