"""`python -m tests.faults` runs rows whatever becomes of the others, and its results go into a page."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.faults import __main__ as command
from tests.faults import rows
from tests.faults.matrix import FAULTS, Fault, Result, Row, Skipped, Stage


@pytest.fixture(autouse=True)
def no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those of the test, which need no servers."""
    monkeypatch.setattr(rows, "register", lambda: None)
    for name in [*FAULTS]:
        monkeypatch.delitem(FAULTS, name)


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> "Add":
    return Add(monkeypatch)


class Add:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __call__(self, name: str, row: Row | Result) -> None:
        async def run(stage: Stage) -> Result:
            return row if isinstance(row, Result) else await row(stage)

        self._patch.setitem(FAULTS, name, Fault(name, f"the goal of {name}", run))


def status(*arguments: str) -> int:
    try:
        command.main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def test_a_row_that_raises_has_failed_and_the_others_are_run(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(stage: Stage) -> Result:
        raise ValueError("out of order")

    add("broken", broken)
    add("whole", Result(rounds=5, acknowledged=1234, recoveries=[0.1, 0.2, 0.3]))

    assert status() == 1
    shown = capsys.readouterr().out
    assert "FAILED  broken" in shown
    assert "ValueError: out of order" in shown
    assert "ok      whole" in shown
    assert "| whole | 5 | 1,234 | 0 | 0 | 0 | 0 | 200 / 300 ms | 0 | yes |" in shown


def test_a_row_that_needs_what_this_machine_lacks_is_skipped(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    async def impossible(stage: Stage) -> Result:
        raise Skipped("there is no PgBouncer")

    add("impossible", impossible)

    assert status() == 0
    assert "skipped impossible" in (shown := capsys.readouterr().out)
    assert "not run: there is no PgBouncer" in shown


@pytest.mark.parametrize(
    "result",
    [Result(lost=1), Result(doubled=1), Result(failed=1), Result(leaked=1), Result(violations=["a 500"])],
    ids=repr,
)
def test_what_must_never_happen_fails_the_short_form_too(add: Add, result: Result) -> None:
    add("row", result)

    assert status("--quick") == 1


def test_a_missed_goal_fails_only_the_full_form(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result()
    result.goal(False, "it took 3 s")
    result.goal(True, "never shown")
    add("slow", result)

    assert status("--quick") == 0
    assert status() == 1
    assert "**slow**: goal missed: it took 3 s" in (shown := capsys.readouterr().out)
    assert "never shown" not in shown


def test_a_task_that_a_row_leaves_and_a_failure_that_nobody_saw_are_violations(
    add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = []

    async def untidy(stage: Stage) -> Result:
        tasks.append(asyncio.create_task(asyncio.sleep(3600), name="forgotten"))
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        return Result()

    add("untidy", untidy)

    assert status("--quick") == 1
    shown = capsys.readouterr().out
    assert "violation: a task is left:" in shown
    assert "ZeroDivisionError" in shown


def test_each_row_has_an_empty_folder_of_its_own(add: Add) -> None:
    async def curious(stage: Stage) -> Result:
        assert [*stage.folder.iterdir()] == []
        (stage.folder / "file").touch()
        return Result(rounds=stage.rounds(full=100, quick=2))

    add("first", curious)
    add("second", curious)

    assert status("--quick") == 0


def test_names_or_parts_of_them_choose_rows(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("disk full", "disk full (log)", "deadlock"):
        add(name, Result())

    assert status("disk full") == 0
    assert "disk full (log)" not in capsys.readouterr().out
    assert status("(log", "dead") == 0
    assert "disk full (log)" in (shown := capsys.readouterr().out)
    assert "deadlock" in shown
    assert status("flood") == 2


def test_a_row_that_was_run_again_replaces_what_it_was_in_the_page(add: Add, tmp_path: Path) -> None:
    add("first", Result(rounds=1))
    add("second", Result(rounds=2, missed=["too slow"], figures={"requests": "7"}))
    assert status("--json", str(tmp_path / "all.json")) == 1
    add("second", Result(rounds=3, figures={"requests": "8"}))
    assert status("second", "--json", str(tmp_path / "again.json")) == 0
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- begin matrix -->\nold\n<!-- end matrix -->\nAfter\n")

    files = [str(tmp_path / name) for name in ("all.json", "again.json")]
    assert status("--from", *files, "--markdown", str(page)) == 0

    text = page.read_text()
    assert text.startswith("Before\n<!-- begin matrix -->\n    python -m tests.faults")
    assert text.endswith("<!-- end matrix -->\nAfter\n")
    assert "| first | 1 |" in text
    assert "| second | 3 |" in text
    assert "| second | the goal of second | requests: 8 |" in text
    assert "too slow" not in text
    assert "old" not in text
    assert json.loads((tmp_path / "all.json").read_text())["rows"]["second"]["result"]["rounds"] == 2


def test_a_page_without_a_place_is_told_before_anything_is_run(add: Add, tmp_path: Path) -> None:
    async def never(stage: Stage) -> Result:
        raise AssertionError("it was run")

    add("never", never)
    (page := tmp_path / "page.md").write_text("Nothing here\n")

    assert status("--markdown", str(page)) == 2
