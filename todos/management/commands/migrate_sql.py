import os
from typing import Any, override

from django.conf import settings
from django.core.management.base import CommandParser

from persistence import history, migrator
from persistence.postgres.dsn import Dsn
from todos.management.base import Command as BaseCommand
from todos.management.base import Error, located_database


class Command(BaseCommand):
    help = (
        "Brings the database's schema to the newest migration, or to the one you name. Any number may run it at once."
    )

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("revision", nargs="?", help="the migration to go to, up or down; the newest by default")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--down", type=int, metavar="N", help="take the last N migrations back")
        what.add_argument("--status", action="store_true", help="say where the database is, and change nothing")
        what.add_argument(
            "--check", action="store_true", help="as --status, with exit status 1 unless it is up to date"
        )
        what.add_argument("--new", metavar="DESCRIPTION", help="write an empty migration from the template")
        parser.add_argument("--sql", action="store_true", help="print the SQL instead of running it")
        parser.add_argument("--json", action="store_true", help="with --status or --check: print a JSON object")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        if options["revision"] and any(options[name] for name in ("down", "status", "check", "new")):
            raise Error("A revision goes with none of --down, --status, --check and --new.")
        if options["sql"] and any(options[name] for name in ("status", "check", "new")):
            raise Error("--sql goes with none of --status, --check and --new.")
        if options["json"] and not (options["status"] or options["check"]):
            raise Error("--json goes with --status or --check.")
        if options["new"] is not None:
            path = migrator.new(options["new"])
            self.stdout.write(f"Wrote {os.path.relpath(path)}; its docstring says what to think of.")
            return
        if options["down"] is not None and options["down"] < 1:
            raise Error("--down takes the number of migrations to take back, from 1.")
        with located_database(direct=True) as dsn:
            if options["status"] or options["check"]:
                self._status(dsn, options["json"], must_be_current=options["check"])
            elif options["sql"]:
                self._print_sql(dsn, options["revision"], options["down"])
            else:
                self._move(dsn, options["revision"], options["down"])

    def _status(self, dsn: Dsn, as_json: bool, must_be_current: bool) -> None:
        current, head = _current(dsn), history.head()
        state = history.state(current)
        if as_json:
            self.print_json({"current": current, "head": head, "state": state})
        else:
            newer = current if state == "unknown" else None
            applied = () if newer else history.path("base", current or "base")[1]
            for revision, description in history.revisions().items():
                mark = "?" if newer else "x" if revision in applied else " "
                self.stdout.write(f"[{mark}] {revision} {description}")
            self.stdout.write(f"The database is {state} (at {current or 'nothing'}, newest is {head}).")
            if newer:
                self.stdout.write(history.ahead(newer))
        if must_be_current and state != "up-to-date":
            raise SystemExit(1)

    def _print_sql(self, dsn: Dsn, revision: str | None, down: int | None) -> None:
        current = _current(dsn)
        self.stdout.write(migrator.sql(current, _target(current, revision, down)))

    def _move(self, dsn: Dsn, revision: str | None, down: int | None) -> None:
        current = _current(dsn)
        target, timeout = _target(current, revision, down), settings.DATABASE_OPTIONS.connect_timeout
        runs = migrator.migrate(dsn, target, self._report, timeout)
        if not runs:
            self.stdout.write(f"Nothing to do: the database is at {current or 'nothing'}.")
        elif runs[-1].direction == "up" and settings.DATABASE_LOCATION_DIRECT != settings.DATABASE_LOCATION:
            self.stdout.write("Run `manage.py grant_app` now: the server's role may have no rights yet to what is new.")

    def _report(self, run: migrator.RevisionRun) -> None:
        arrow = "up to" if run.direction == "up" else "down from"
        self.stdout.write(f"{arrow} {run.revision} {run.description} ({run.duration * 1000:.0f} ms)")


def _current(dsn: Dsn) -> str | None:
    return migrator.current(dsn, settings.DATABASE_OPTIONS.connect_timeout)


def _target(current: str | None, revision: str | None, down: int | None) -> str:
    """The revision to go to; "base" is before the first. Raises `MigrationError` for one that does not exist."""
    if down is None:
        target = revision or "head"
        history.path(current, target)
        return target
    _, applied = history.path(current, "base")
    if down > len(applied):
        raise Error(f"Only {len(applied)} migrations are applied, so {down} cannot be taken back.")
    return [*applied, "base"][down]
