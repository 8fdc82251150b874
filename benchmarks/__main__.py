"""Runs the studies and writes their results: `python -m benchmarks --help`."""

import argparse
import importlib
import json
import shlex
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import contenders, machine, report
from benchmarks.options import Options
from benchmarks.processes import ROOT

RESULTS = ROOT / "benchmarks/results"
STUDIES = (
    "side_by_side", "delayed", "statements", "pools", "growth", "server", "busy_user", "sign_in", "observability",
    "since",
)  # fmt: skip
BY_REQUEST = ("spread",)
"""They need more than this machine has: a cluster of Citus."""
QUICK: dict[str, Any] = {"rounds": 1, "seconds": 0.6, "delays": (20.0,)}


def main(arguments: Sequence[str]) -> None:
    """Exits with status 1 when a tool is missing or a study fails. The results of the other studies are written."""
    given = _parse(arguments)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if given.found:
        _publish(_merged(given.found), stem, in_docs=True)
        return
    if missing := contenders.missing():
        sys.exit("\n".join(missing))
    found: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *arguments]),
        "machine": machine.describe(),
        "studies": {},
    }
    failed = [name for name in given.studies or STUDIES if not _run(name, _options(given), found["studies"])]
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1))
    _publish(found, stem, in_docs=not given.quick)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str, options: Options, studies: dict[str, Any]) -> bool:
    """Adds the study's result to the others. Returns False when the study fails."""
    _say(f"== {name}")
    started = time.monotonic()
    try:
        study = importlib.import_module(f"benchmarks.{name}")
        result = study.run(options)
        _say(study.table(result))
    except Exception:  # noqa: BLE001 - no failure may lose the results of the others, which took long
        traceback.print_exc()
        return False
    _say(f"== {name} took {time.monotonic() - started:.0f} s")
    studies[name] = result
    return True


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Merges results: a later file's study replaces an earlier one, and the last file gives the rest."""
    found: dict[str, Any] = {}
    for path in paths:
        later = json.loads(path.read_text())
        found = later | {"studies": found.get("studies", {}) | later["studies"]}
    return found


def _publish(found: dict[str, Any], stem: Path, *, in_docs: bool) -> None:
    studies = found["studies"]
    page = report.fill(report.PAGE.read_text(), _sections(found))
    stem.with_suffix(".md").write_text(page.replace(f"({report.PLOT})", f"({stem.name}-{report.PLOT})"))
    if in_docs:
        report.PAGE.write_text(page)
    for name, needed in report.PLOTS.items():
        if all(each in studies for each in needed):
            # Imported here, because only a run of these studies needs matplotlib.
            from benchmarks import plot

            for path in (stem.with_name(f"{stem.name}-{name}"), *([report.PAGE.with_name(name)] if in_docs else [])):
                plot.DRAW[name](*(studies[each] for each in needed), path)
    written = [f"{stem}.md", *([str(report.PAGE.relative_to(ROOT))] if in_docs else [])]
    _say(f"== written: {' and '.join(written)}")


def _sections(found: Mapping[str, Any]) -> dict[str, str]:
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in found["studies"]}
    sections = {name: module.table(found["studies"][name]) for name, module in modules.items()}
    for name, module in modules.items():
        if hasattr(module, "goals"):
            sections[f"goals of {name}"] = report.goals_table(module.goals(found["studies"][name]))
    run = f"    {found['command']}\n\non {found['started'][:10]}, on this machine:\n"
    return sections | {"machine": f"{run}\n{machine.table(found['machine'])}"}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "studies", nargs="*", choices=STUDIES + BY_REQUEST, metavar="STUDY",
        help=f"some of {', '.join(STUDIES)}, which are the default, or {', '.join(BY_REQUEST)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="the same code in minutes; does not write to docs/")
    parser.add_argument(
        "--delays", type=_numbers, metavar="MS,MS", help="milliseconds added to each round trip: 1,5,20"
    )
    parser.add_argument("--rounds", type=int, help="measurements of each contender at each operation")
    parser.add_argument("--seconds", type=float, help="seconds of a measurement")
    parser.add_argument("--clients", type=int, help="connections that send requests")
    parser.add_argument(
        "--from", dest="found", type=Path, nargs="+", metavar="FILE", help="report these results and measure nothing"
    )
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


def _options(given: argparse.Namespace) -> Options:
    named = {field.name: getattr(given, field.name) for field in fields(Options)}
    return Options(**(QUICK if given.quick else {}) | {name: each for name, each in named.items() if each is not None})


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command reports what it does


if __name__ == "__main__":
    main(sys.argv[1:])
