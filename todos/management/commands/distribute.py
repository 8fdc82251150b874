from typing import Any, override

from django.conf import settings
from django.core.management.base import CommandParser

from persistence import distribution
from persistence.postgres.dsn import Dsn
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, located_database, progress


class Command(BaseCommand):
    help = (
        "Spreads the tables over the nodes of Citus, by owner, while servers run. Run it on the coordinator, as the "
        "owner of the tables (DATABASE_URL_DIRECT), as often as you like: it takes only the steps that are left."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--dry-run", action="store_true", help="print the steps that are left, and change nothing")
        what.add_argument("--status", action="store_true", help="say what is where, and change nothing")

    @override
    def handle(self, *args: Any, dry_run: bool, status: bool, **options: Any) -> None:
        with located_database(direct=True) as dsn:
            try:
                if dry_run or status:
                    self._show(distribution.status(dsn, settings.DATABASE_OPTIONS.connect_timeout), in_full=dry_run)
                else:
                    self._distribute(dsn)
            except distribution.DistributionError as error:
                raise Error(str(error)) from error

    def _show(self, status: distribution.Status, *, in_full: bool) -> None:
        if in_full:
            for step in status.left:
                self.stdout.write(f"-- {step.description}")
                self.stdout.write("".join(f"{statement};\n" for statement in step.statements))
        else:
            for table in status.tables:
                self.stdout.write(f"{table.name}: {table.kind}, {_number(table.shards, 'shard')}, {_size(table.bytes)}")
            for node in status.nodes:
                state = "" if node.is_active else ", not active"
                self.stdout.write(f"{node.address}: {_number(node.shards, 'shard')}, {_size(node.bytes)}{state}")
        self.stdout.write(f"{_number(len(status.left), 'step')} left." if status.left else "The database is spread.")

    def _distribute(self, dsn: Dsn) -> None:
        total = len(distribution.status(dsn, settings.DATABASE_OPTIONS.connect_timeout).left)
        with progress("Spread tables") as show:
            runs = list[distribution.StepRun]()

            def report(run: distribution.StepRun) -> None:
                runs.append(run)
                show(len(runs), total)
                self.stdout.write(f"{run.step.description} ({run.duration * 1000:.0f} ms)")

            distribution.distribute(dsn, report, settings.DATABASE_OPTIONS.connect_timeout)
        self.stdout.write("The database is spread." if runs else "Nothing to do: the database is spread.")


def _number(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"
