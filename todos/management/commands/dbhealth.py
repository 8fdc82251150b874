import asyncio
import time
from dataclasses import asdict
from typing import Any, override

import psycopg
from django.conf import settings
from django.core.management.base import CommandParser

from persistence import history
from persistence.health_report import Report, examine
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from persistence.postgres.options import PoolLimits
from todos.management.base import ERRORS, TIMEOUT, Error, as_command_error, located_database, opened_database
from todos.management.base import Command as BaseCommand

RETRY_DELAY = 0.5


class Command(BaseCommand):
    help = "Says if the database can be reached, how fast it answers, and if every statement of the service can run."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON object instead of lines")
        parser.add_argument(
            "--wait", type=float, default=0, metavar="SECONDS", help="wait up to SECONDS for the database to come up"
        )

    @override
    def handle(self, *args: Any, json: bool, wait: float, **options: Any) -> None:
        # Also refuses "nan", which is not less than anything and would never end.
        if not wait >= 0:
            raise Error("--wait takes the number of seconds, from 0.")
        try:
            with located_database() as dsn:
                report = _examine_within(dsn, wait)
        except (Error, *ERRORS) as error:
            if json:
                self.print_json({"healthy": False, "error": str(as_command_error(error))})
                raise SystemExit(1) from None
            raise
        limits = settings.DATABASE_OPTIONS.limits
        if json:
            pool = {"pool_min": limits.min_size, "pool_max": limits.max_size}
            self.print_json({"healthy": not report.faults, **asdict(report), **pool})
        else:
            self._print(report, limits)
        if report.faults:
            raise SystemExit(1)

    def _print(self, report: Report, limits: PoolLimits) -> None:
        branch = f", Neon branch {report.neon_branch}" if report.neon_branch else ""
        self.stdout.write(
            f"PostgreSQL {report.server_version} at {report.host}, database {report.database}{branch}\n"
            f"Transport:  {report.transport}\n"
            f"Round trip: {report.round_trip_median_ms} ms median, {report.round_trip_min_ms} ms at best\n"
            f"Pool:       {limits.min_size} to {limits.max_size} connections per process\n"
            f"Migrations: {report.migration} (at {report.migration_current or 'nothing'}, newest is "
            f"{report.migration_head})"
        )
        if report.migration == "behind":
            self.stdout.write("            Run `manage.py migrate_sql`.")
        if report.migration == "unknown" and report.migration_current:
            self.stdout.write(f"            {history.ahead(report.migration_current)}")
        self.stdout.write(f"Statements: {'not ' * bool(report.faults)}all can run")
        for fault in report.faults:
            self.stdout.write(f"            {fault}")
        self.stdout.write(f"Rights:     {'more' if report.excess_rights else 'no more'} than the server needs")
        for right in report.excess_rights:
            self.stdout.write(f"            {right}")


def _examine_within(dsn: Dsn, wait: float) -> Report:
    deadline = time.monotonic() + wait
    while True:
        try:
            return asyncio.run(_examine(dsn))
        except (Error, Unavailable, psycopg.OperationalError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_DELAY)


async def _examine(dsn: Dsn) -> Report:
    try:
        async with asyncio.timeout(TIMEOUT), opened_database(dsn) as database:
            return await examine(database, dsn)
    except TimeoutError as error:
        raise Error(f"The database {dsn} did not answer within {TIMEOUT:g} s.") from error
