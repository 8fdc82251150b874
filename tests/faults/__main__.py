"""Runs the fault matrix: `python -m tests.faults --help`."""

import argparse
import asyncio
import json
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report import fill
from tests.faults import report, rows
from tests.faults.matrix import FAULTS, Fault, Result, Skipped, Stage
from tests.faults.report import Outcome

MARKS = ("<!-- begin matrix -->", "<!-- end matrix -->")
LIMIT, QUICK_LIMIT = 3600.0, 120.0
"""Seconds after which a row that hangs counts as failed."""


def main(arguments: Sequence[str]) -> None:
    """Ends with status 1 when something happened that must not, or, in the full form, when a goal was missed."""
    rows.register()
    given = _parse(arguments)
    if given.found:
        found = _merged(given.found)
        outcomes = _in_order([Outcome.load(row) for row in found["rows"].values()])
        _publish(given, found, outcomes)
        return
    started = datetime.now(UTC)
    faults = [FAULTS[name] for name in given.names or FAULTS]
    outcomes = []
    for fault in faults:
        outcomes.append(_run(fault, given))
        _say(outcomes[-1].line(quick=given.quick))
    found = {
        "started": started.isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "tests.faults", *_without_files(arguments)]),
        "quick": given.quick,
        "machine": report.describe(),
        "rows": {each.name: each.dump() for each in outcomes},
    }
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    _publish(given, found, outcomes)
    if failed := [each.name for each in outcomes if not each.is_fine(quick=given.quick)]:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(fault: Fault, given: argparse.Namespace) -> Outcome:
    """A row that raises has failed; the others are run all the same."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="todo-chaos-", delete=not given.keep) as folder:
        if given.keep:
            _say(f"== {fault.name}: {folder}")
        try:
            result = asyncio.run(_watched(fault, Stage(Path(folder).resolve(), given.quick)))
        except Skipped as reason:
            return report.outcome(fault, time.monotonic() - started, skipped=str(reason))
        except Exception:  # noqa: BLE001 - whatever it is, the others shall not be lost
            return report.outcome(fault, time.monotonic() - started, error=traceback.format_exc())
    return report.outcome(fault, time.monotonic() - started, result)


async def _watched(fault: Fault, stage: Stage) -> Result:
    """The row's result, and as violations what it left behind in the event loop or failed there unseen."""
    unseen: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(f"{context['message']}: {context.get('exception')!r}"))
    async with asyncio.timeout(QUICK_LIMIT if stage.quick else LIMIT):
        result = await fault.run(stage)
    # What has just been cancelled or closed ends in the next turns.
    for _ in range(10):
        await asyncio.sleep(0.01)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    result.violations += [f"a task is left: {task.get_coro()}" for task in left]
    result.violations += [f"unseen: {text}" for text in unseen]
    return result


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Of several results the newest of each row, and how all were made; the rest is as the last one says."""
    found: dict[str, Any] = {}
    commands = []
    for path in paths:
        later = json.loads(path.read_text())
        commands.append(later["command"])
        found = later | {"rows": found.get("rows", {}) | later["rows"], "command": "\n".join(commands)}
    return found


def _in_order(outcomes: Sequence[Outcome]) -> list[Outcome]:
    order = list(FAULTS)
    return sorted(outcomes, key=lambda each: order.index(each.name) if each.name in FAULTS else len(order))


def _publish(given: argparse.Namespace, found: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    _say("\n" + report.page(found, outcomes))
    if given.markdown:
        page = given.markdown.read_text()
        given.markdown.write_text(fill(page, {"matrix": report.page(found, outcomes)}))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which rows, by name or a part of it; all by default")
    parser.add_argument("--quick", action="store_true", help="the short form of each row: all in minutes")
    parser.add_argument("--list", action="store_true", help="only say what rows there are")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help=f"put the tables between {MARKS[0]} and its end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--from", dest="found", type=Path, nargs="+", metavar="FILE", help="only report these results")
    parser.add_argument("--keep", action="store_true", help="leave the rows' folders, with the logs of their servers")
    given = parser.parse_args(arguments)
    if given.list:
        parser.exit(message="".join(f"{name}: {each.goal}\n" for name, each in FAULTS.items()))
    # Before an hour of work, not after it.
    if given.markdown and not all(mark in given.markdown.read_text() for mark in MARKS):
        parser.error(f"{given.markdown} has not the lines {' and '.join(MARKS)}")
    for word in given.names:
        if not any(word in name for name in FAULTS):
            parser.error(f"there is no row {word}; --list tells which there are")
    # An exact name is that row alone, though it may be a part of another's.
    given.names = [n for n in FAULTS if any(word == n or (word not in FAULTS and word in n) for word in given.names)]
    return given


def _without_files(arguments: Sequence[str]) -> list[str]:
    """Where the results went matters only here."""
    words = list(arguments)
    for option in ("--json", "--markdown"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    return [word for word in words if word != "--keep"]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command tells what it does


if __name__ == "__main__":
    main(sys.argv[1:])
