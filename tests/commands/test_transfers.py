"""The commands `manage.py export_tasks` and `import_tasks`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Outcome, command

FIXTURES = Path(__file__).parents[1] / "formats/fixtures"


@pytest.fixture
def user(url: str) -> str:
    return command(url, "create_user", "alice@example.com").out.strip()


def done(outcome: Outcome) -> str:
    assert (outcome.status, outcome.err) == (0, "")
    return outcome.out


def without_owner(content: str) -> list[dict[str, Any]]:
    tasks = [json.loads(line) for line in content.splitlines()]
    return sorted(({k: v for k, v in each.items() if k not in ("user_id", "version")} for each in tasks), key=str)


def test_what_one_user_exports_another_one_imports(url: str, user: str, tmp_path: Path) -> None:
    other = command(url, "create_user", "bob@example.com").out.strip()
    said = done(command(url, "import_tasks", user, str(FIXTURES / "todoist.csv"), "--format", "todoist-csv"))
    assert said.splitlines()[-1] == "4 imported, 0 known, 0 deleted, 0 refused."
    assert "Line 7, imported: Date is in the description" in said
    file = tmp_path / "tasks.jsonl"

    assert done(command(url, "export_tasks", "Alice@example.com", "--output", str(file))) == "Tasks exported: 4\n"
    assert done(command(url, "export_tasks", user)) == file.read_text()
    imported = command(url, "import_tasks", "bob@example.com", str(file))
    assert done(imported).splitlines()[-1] == "4 imported, 0 known, 0 deleted, 0 refused."

    assert without_owner(done(command(url, "export_tasks", other))) == without_owner(file.read_text())
    assert list(tmp_path.iterdir()) == [file]


def test_a_trial_writes_nothing(url: str, user: str) -> None:
    arguments = (user, str(FIXTURES / "todo.txt"), "--format", "todotxt")
    tried = done(command(url, "import_tasks", *arguments, "--dry-run"))
    assert tried.splitlines()[-1] == "Would be 6 imported, 0 known, 0 deleted, 0 refused."
    assert done(command(url, "export_tasks", user)) == ""
    assert (
        done(command(url, "import_tasks", *arguments)).splitlines()[-1] == "6 imported, 0 known, 0 deleted, 0 refused."
    )


@pytest.mark.slow
def test_more_tasks_than_a_request_may_have_come_and_go_in_any_form(url: str, user: str, tmp_path: Path) -> None:
    file = tmp_path / "todo.txt"
    file.write_text("".join(f"Task {n}\n" for n in range(10_500)))
    done(command(url, "import_tasks", user, str(file), "--format", "todotxt"))
    content = done(command(url, "export_tasks", user, "--format", "ics"))
    assert content.count("BEGIN:VTODO") == 10_500
    assert content.endswith("END:VCALENDAR\r\n")


def test_what_is_refused_is_told_and_the_status_is_1(url: str, user: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"title": ""}\n{"title": "Fine"}\n')
    outcome = command(url, "import_tasks", user, str(file))
    assert outcome.status == 1
    assert outcome.out.splitlines() == [
        "Line 1, refused: title: A title has 1 to 200 characters, not counting space around it",
        "1 imported, 0 known, 0 deleted, 1 refused.",
    ]
    assert outcome.err == "Error: Not all tasks were imported: 1 were refused.\n"


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("todo.txt", "google-tasks", "This is not JSON"),
        ("nothing.txt", "todotxt", "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(url: str, user: str, name: str, form: str, reason: str) -> None:
    outcome = command(url, "import_tasks", user, str(FIXTURES / name), "--format", form)
    assert outcome.status == 1
    assert re.fullmatch(rf"Error: .*{reason}.*\n", outcome.err)


@pytest.mark.parametrize("who", ["nobody@example.com", "no-id", "f0bf6bd9-7d13-4588-acd1-48a6554a071d"])
def test_a_user_who_does_not_exist_gets_no_tasks(url: str, who: str) -> None:
    outcome = command(url, "import_tasks", who, str(FIXTURES / "todo.txt"), "--format", "todotxt")
    assert (outcome.status, outcome.out) == (1, "")
    assert re.match("Error: (There is no user|'no-id' is neither)", outcome.err)


def test_a_limit_of_tasks_holds_for_operators_too(url: str, user: str) -> None:
    arguments = (user, str(FIXTURES / "todo.txt"), "--format", "todotxt")
    outcome = command(url, "import_tasks", *arguments, user_tasks_max=2)
    assert outcome.status == 1
    assert outcome.out.splitlines()[-1] == "2 imported, 0 known, 0 deleted, 4 refused."


def test_a_file_that_cannot_be_written_whole_is_not_left_behind(url: str, user: str, tmp_path: Path) -> None:
    outcome = command(url, "export_tasks", "nobody@example.com", "--output", str(tmp_path / "tasks.jsonl"))
    assert outcome.status == 1
    assert list(tmp_path.iterdir()) == []
