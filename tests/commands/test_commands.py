"""All commands of the project: which there are, and how each fails when its database is not there, or not migrated."""

import re
import subprocess
import sys

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandParser

from persistence.postgres.dsn import Dsn
from tests.commands.conftest import SECRET
from tests.support.processes import clean_environment, free_port
from tests.support.servers import ROOT, command, manage, url_of

COMMANDS = {name: app for name, app in sorted(get_commands().items()) if app in ("todos", "web")}


def parser_of(name: str) -> CommandParser:
    return load_command_class(COMMANDS[name], name).create_parser("manage.py", name)


def test_the_commands_are_those_that_are_promised() -> None:
    ours = (
        "create_user", "dbhealth", "distribute", "erase_user", "export_tasks", "grant_app", "import_tasks",
        "list_users", "migrate_sql", "purge", "runserver", "seed_dev",
    )  # fmt: skip

    assert dict.fromkeys(ours, "todos") | {"export_openapi": "web"} == COMMANDS


def test_what_all_commands_load_is_without_sqlmodel() -> None:
    """It takes 0.3 seconds of CPU, which a command such as help can do without."""
    code = "import django, sys; django.setup(); sys.exit('sqlmodel' in sys.modules)"
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": "embedded://.postgres-test"}
    environment |= {"DJANGO_SETTINGS_MODULE": "config.settings"}

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean_environment() | environment, check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_reads_well(name: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), name, "--help")

    assert (outcome.status, outcome.err) == (0, "")
    assert f"usage: manage.py {name}" in outcome.out
    assert "SUPPRESS" not in outcome.out
    # Django's own options are left out of the list.
    assert "pythonpath PYTHONPATH\n" not in outcome.out
    for option in re.findall(r"^  (--?\w.*|\w\S*)$", outcome.out, re.MULTILINE):
        assert re.search(r"\s{2,}\S", option) or len(option) > 20, f"{option} has no explanation"


@pytest.mark.parametrize(
    "command_line",
    [
        *(f"{name} --misspelt" for name in COMMANDS),
        "dbhealth --wait soon",
        "dbhealth x",
        "create_user",
        "erase_user",
    ],
)
def test_a_misspelt_command_line_ends_with_status_1_and_the_usage(command_line: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), *command_line.split())

    assert (outcome.status, outcome.out) == (1, "")
    assert "usage: manage.py" in outcome.err


@pytest.mark.parametrize(
    "command_line",
    [
        "create_user a@example.com", "dbhealth", "migrate_sql", "migrate_sql --check", "migrate_sql --status --json",
        "migrate_sql --sql", "migrate_sql --down 1", "seed_dev", "seed_dev --users 1 --tasks 1", "runserver --seed",
        "erase_user a@example.com --yes", "list_users", "purge", "grant_app todo_server",
        "export_tasks a@example.com", f"import_tasks a@example.com {__file__}",
    ],
)  # fmt: skip
def test_without_a_database_a_command_is_one_line_with_a_hint(command_line: str, url_of_nothing: str) -> None:
    address = [str(free_port())] * command_line.startswith("runserver")
    outcome = command(url_of_nothing, *command_line.split(), *address)

    assert (outcome.status, outcome.out) == (1, "")
    assert "No server listens there" in outcome.err
    assert outcome.err.count("\n") == 1
    assert SECRET not in outcome.err


@pytest.mark.parametrize(
    "command_line", ["create_user a@example.com", "seed_dev", "erase_user a@example.com --yes", "purge"]
)
def test_without_tables_a_command_says_what_to_do(command_line: str, empty_dsn: Dsn) -> None:
    outcome = command(url_of(empty_dsn), *command_line.split())

    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith('Error: 42P01: relation "users" does not exist. Run `manage.py migrate_sql`, or ')
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
def test_the_real_program_does_the_same_and_djangos_own_check_finds_nothing(dsn: Dsn) -> None:
    environment = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url_of(dsn)}
    healthy = manage("dbhealth", environment=environment)
    missing = manage("dbhealth", environment=environment | {"DATABASE_URL": url_of(dsn.with_database("nowhere"))})
    checked = manage("check", "--fail-level", "WARNING", environment=environment)

    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert f"database {dsn.database}" in healthy.stdout
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "Create the database" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert checked.returncode == 0, checked.stderr
