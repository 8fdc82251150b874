"""`python -m tests.faults` runs every scenario even if others fail, and writes the results into a page."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import __main__ as command
from tests.faults import scenarios
from tests.faults.matrix import SCENARIOS, Result, Run, Scenario
from tests.support.processes import clean_environment
from tests.support.servers import ROOT

type Add = Callable[..., None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds a scenario that fills in these values of its result, or calls a function. There are no others."""
    monkeypatch.setattr(scenarios, "register", lambda: None)
    for name in [*SCENARIOS]:
        monkeypatch.delitem(SCENARIOS, name)

    def add(name: str, call: Callable[[Run], object] = lambda _: None, **values: object) -> None:
        async def body(run: Run, result: Result) -> None:
            call(run)
            for field, value in values.items():
                setattr(result, field, value)

        monkeypatch.setitem(SCENARIOS, name, Scenario(name, f"the goal of {name}", body))

    return add


def test_the_command_lists_all_scenarios_without_settings() -> None:
    command = [sys.executable, "-m", "tests.faults", "--list"]
    listed = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert "disk full:" in listed.stderr


def status(*arguments: str) -> int:
    try:
        command.main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def test_every_scenario_is_run_even_if_others_fail_or_are_skipped(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("broken", lambda _: 1 / 0)
    add("skipped", skipped="PgBouncer is not installed")
    add("whole", rounds=5, acknowledged=1234, recoveries=[0.1, 0.2, 0.3])

    assert status() == 1
    shown = capsys.readouterr().out
    for text in (
        "FAILED  broken",
        "ZeroDivisionError",
        "skipped skipped: PgBouncer is not installed",
        "not run: PgBouncer is not installed",
        "ok      whole",
        "| whole | 5 | 1,234 | 0 | 0 | 0 | 0 | 200 / 300 ms | 0 | yes |",
    ):
        assert text in shown


def test_the_output_ends_with_what_failed_and_why(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("leaky", leaked=1, violations=[f"socket {number}" for number in range(5)])
    add("whole", missed=["it took 3 s"])
    add("broken", lambda _: 1 / 0)

    assert status("--quick") == 1
    *_, leaky, counts, first, _second, _third, more, broken, traceback = capsys.readouterr().out.splitlines()
    assert (leaky, counts) == ("FAILED  leaky", "  1 leaked")
    assert (first, more) == ("  violation: socket 0", "  2 more in the output above")
    assert broken == "FAILED  broken"
    assert traceback.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("field", ["lost", "doubled", "failed", "leaked", "violations"])
def test_a_violation_fails_the_short_form_too(add: Add, field: str) -> None:
    add("broken", **{field: ["a 500"] if field == "violations" else 1})

    assert status("--quick") == 1


def test_a_missed_goal_fails_only_the_full_form(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("slow", missed=["it took 3 s"])

    assert status("--quick") == 0
    assert status() == 1
    assert "**slow**: goal missed: it took 3 s" in capsys.readouterr().out


def test_a_task_that_is_left_and_an_error_in_the_event_loop_are_violations(
    add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = []

    def leave(run: Run) -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)

    add("untidy", leave)

    assert status("--quick") == 1
    shown = capsys.readouterr().out
    assert "violation: a task is left:" in shown
    assert "ZeroDivisionError" in shown


def test_each_scenario_has_an_empty_folder(add: Add) -> None:
    for name in ("first", "second"):
        add(name, lambda run: (run.folder / "file").touch(exist_ok=False))

    assert status() == 0


def test_names_or_parts_of_them_choose_scenarios(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("disk full", "disk full (log)", "deadlock"):
        add(name)

    assert status("disk full") == 0
    assert "disk full (log)" not in capsys.readouterr().out
    assert status("(log", "dead") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("disk full (log)", "deadlock"))
    assert status("flood") == 2


def test_a_later_run_replaces_the_results_of_its_scenarios_in_the_page(add: Add, tmp_path: Path) -> None:
    add("first", rounds=1)
    add("second", rounds=2, missed=["too slow"], figures={"requests": "7"})
    page, results = tmp_path / "page.md", str(tmp_path / "results.json")
    assert status("--json", results) == 1
    add("second", rounds=3, figures={"requests": "8"})
    assert status("--markdown", str(tmp_path / "results.json")) == 2
    page.write_text("Before\n<!-- begin matrix -->\nold\n<!-- end matrix -->\nAfter\n")
    assert status("second", "--json", results, "--markdown", str(page)) == 0

    text = page.read_text()
    assert text.startswith("Before\n<!-- begin matrix -->\n    python -m tests.faults\n")
    assert "\n    python -m tests.faults second\n" in text
    assert text.endswith("<!-- end matrix -->\nAfter\n")
    assert "| first | 1 |" in text
    assert "| second | 3 |" in text
    assert "| second | the goal of second | requests: 8 |" in text
    assert "too slow" not in text
    assert "old" not in text
