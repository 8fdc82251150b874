"""Runs the fault matrix: `python -m tests.faults --help`."""

import argparse
import asyncio
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import fill
from tests.faults import scenarios
from tests.faults.matrix import SCENARIOS, Result, Run, Scenario, Skipped
from tests.faults.report import Report, failure, summary

MARKS = ("<!-- begin matrix -->", "<!-- end matrix -->")
LIMIT, QUICK_LIMIT = 3600.0, 300.0
"""Seconds after which a scenario that hangs has failed."""


def main(arguments: Sequence[str]) -> None:
    """Exits with status 1 after a violation or, in the full form, after a missed goal."""
    scenarios.register()
    given = _parse(arguments)
    report = Report(given.quick)
    if given.json and given.json.exists():
        report = Report.read(given.json)
    report.quick = report.quick or given.quick
    report.commands.append(shlex.join(["python", "-m", "tests.faults", *["--quick"] * given.quick, *given.words]))
    failed = []
    for name in given.names:
        result = report.results[name] = _run(SCENARIOS[name], given)
        _print(summary(name, result, quick=given.quick))
        if not result.passes(quick=given.quick):
            failed.append(name)
        if given.json:
            report.write(given.json)
    page = report.page()
    _print(f"\n{page}")
    if given.markdown:
        given.markdown.write_text(fill(given.markdown.read_text(), {"matrix": page}))
    if failed:
        # At the very end, because a log that is cut keeps its end.
        _print("\n" + "\n".join(failure(name, report.results[name]) for name in failed))
        sys.exit(1)


def _run(scenario: Scenario, given: argparse.Namespace) -> Result:
    """Runs one scenario. An exception is a violation, so that the other scenarios are still run."""
    started, result = time.monotonic(), Result()
    with tempfile.TemporaryDirectory(prefix="todo-chaos-", delete=not given.keep) as folder:
        if given.keep:
            _print(f"== {scenario.name}: {folder}")
        try:
            asyncio.run(_watch(scenario, Run(Path(folder).resolve(), given.quick), result))
        except Skipped as reason:
            result.skipped = str(reason)
        except Exception:  # noqa: BLE001 - any error of a scenario is its result
            result.violations.append(traceback.format_exc())
    result.seconds = round(time.monotonic() - started, 1)
    return result


async def _watch(scenario: Scenario, run: Run, result: Result) -> None:
    """Runs a scenario, and adds tasks that it left behind and errors in the event loop as violations."""
    unseen: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(f"{context['message']}: {context.get('exception')!r}"))
    async with asyncio.timeout(QUICK_LIMIT if run.quick else LIMIT):
        await scenario.body(run, result)
    # Tasks that were just cancelled end in the next iterations of the loop.
    for _ in range(10):
        await asyncio.sleep(0.01)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    result.violations += [f"a task is left: {task.get_coro()}" for task in left]
    result.violations += [f"an error in the event loop: {text}" for text in unseen]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="NAME", help="scenarios, by name or a part of it; all by default")
    parser.add_argument("--quick", action="store_true", help="run the short form of each scenario: all in minutes")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help=f"write the tables between {MARKS[0]} and its end"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the results to this file, and report all of it")
    parser.add_argument("--keep", action="store_true", help="keep the folders with the logs of the servers")
    given = parser.parse_args(arguments)
    if given.list:
        parser.exit(message="".join(f"{name}: {each.goal}\n" for name, each in SCENARIOS.items()))
    # A run takes an hour, so mistakes are reported before it.
    if given.markdown and not all(mark in given.markdown.read_text() for mark in MARKS):
        parser.error(f"{given.markdown} does not have the lines {' and '.join(MARKS)}")
    for word in given.words:
        if not any(word in name for name in SCENARIOS):
            parser.error(f"no scenario has {word} in its name; --list shows all names")
    # A complete name is that scenario alone, even if it is a part of another name.
    chosen = {word: [word] if word in SCENARIOS else [n for n in SCENARIOS if word in n] for word in given.words}
    given.names = [name for name in SCENARIOS if not chosen or any(name in names for names in chosen.values())]
    return given


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main(sys.argv[1:])
