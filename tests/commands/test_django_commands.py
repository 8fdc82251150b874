"""Django's own commands: few of them do something here, and each of the others is one line that says what does."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.core.management import get_commands
from django.utils.log import configure_logging

from config.commands import INSTEAD, KEPT, OURS, Commands
from tests.commands.test_commands import COMMANDS
from tests.support.processes import clean_environment
from tests.support.servers import ROOT

DJANGOS = sorted({*get_commands(), *INSTEAD} - {*COMMANDS, *KEPT})


def run(*arguments: str) -> int:
    """The exit status of `manage.py`, in this process."""
    try:
        Commands(["manage.py", *arguments]).execute()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            # As Python would.
            print(stop.code)  # noqa: T201
            return 1
        return int(stop.code or 0)
    return 0


@pytest.fixture(autouse=True)
def _everything_is_as_before() -> Iterator[None]:
    """Gives Django its list of commands back, which `help` has shortened, and the log its standard error.

    Django sets the log up at each command, and then that is the test's, which is closed after it.
    """
    whole = dict(get_commands())
    yield
    get_commands().update(whole)
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)


@pytest.mark.parametrize("name", DJANGOS)
def test_a_command_that_makes_no_sense_here_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([name], [name, "--help"], ["help", name], [name, "app", "--database", "default"]):
        assert run(*arguments) == 1
        said = capsys.readouterr().out
        assert said.count("\n") == 1
        assert said.startswith(f"Error: Django's {name} {'does not work' if name in INSTEAD else 'is not used'} here; ")


@pytest.mark.parametrize("name", INSTEAD)
def test_the_command_to_use_instead_exists(name: str) -> None:
    for named in re.findall(r"manage\.py (\w+)", INSTEAD[name]):
        assert named in COMMANDS
    if name in ("migrate", "makemigrations", "showmigrations", "sqlmigrate", "flush"):
        assert "migrate_sql" in INSTEAD[name]


@pytest.mark.parametrize("arguments", [("help",), ("help", "--commands"), ("--help",), ()])
def test_help_lists_what_works(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 0
    listed = re.findall(r"^ *(\w+)$", capsys.readouterr().out, re.MULTILINE)
    assert sorted(listed) == sorted([*COMMANDS, "check", "shell"])


def test_check_shell_and_version_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "--fail-level", "WARNING") == 0
    assert run("shell", "-c", "print(6 * 7)") == 0
    assert run("version") == 0
    assert "no issues" in (said := capsys.readouterr().out)
    assert "\n42\n" in said


def test_a_misspelt_command_is_named_with_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nosuch") == 1
    assert re.match("Unknown command: 'nosuch'.*\nType 'manage.py help' for usage.", capsys.readouterr().err)


def test_a_python_without_the_packages_is_told_which_one_has_them() -> None:
    # Without `site` Python has its own modules only, as another Python than that of .venv.
    command = [sys.executable, "-S", str(ROOT / "manage.py"), "dbhealth"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No module named 'django'. ")
    assert ".venv/bin/python manage.py" in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_command_of_an_app_of_ours_is_kept() -> None:
    assert {*COMMANDS.values()} == {*OURS}
