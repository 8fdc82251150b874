"""Runs the studies and writes what they found: `python -m benchmarks --help`."""

import argparse
import importlib
import json
import shlex
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import contenders, machine, report
from benchmarks.options import Options
from benchmarks.processes import ROOT

STUDIES = ("side_by_side", "delayed", "statements", "growth", "server")
QUICK = {"rounds": 1, "seconds": 0.6, "delays": (20.0,)}


def main(arguments: Sequence[str]) -> None:
    """Ends with status 1 when something is missing or a study fails; the others are run and written all the same."""
    given = _parse(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    stem = given.output / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if given.found:
        _publish(_merged(given.found), stem, in_docs=True)
        return
    if missing := contenders.missing():
        sys.exit("\n".join(missing))
    found: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *_without_output(arguments)]),
        "machine": machine.describe(),
        "studies": {},
    }
    failed = [name for name in given.studies or STUDIES if not _run(name, _options(given), found["studies"])]
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1))
    _publish(found, stem, in_docs=not given.quick)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str, options: Options, studies: dict[str, Any]) -> bool:
    """Whether the study succeeded; then its result is among the others."""
    _say(f"== {name}")
    started = time.monotonic()
    try:
        study = importlib.import_module(f"benchmarks.{name}")
        result = study.run(options)
        _say(study.table(result))
    except Exception:  # noqa: BLE001 - whatever it is, the others have taken long and shall not be lost
        traceback.print_exc()
        return False
    _say(f"== {name} took {time.monotonic() - started:.0f} s")
    studies[name] = result
    return True


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """Of several results the newest of each study; the rest is as the last one says."""
    found: dict[str, Any] = {}
    for path in paths:
        later = json.loads(path.read_text())
        found = later | {"studies": found.get("studies", {}) | later["studies"]}
    return found


def _publish(found: dict[str, Any], stem: Path, *, in_docs: bool) -> None:
    studies = found["studies"]
    page = report.fill(report.PAGE.read_text(), _sections(found))
    stem.with_suffix(".md").write_text(page.replace(report.PLOT, f"{stem.name}.svg"))
    pictures = [stem.with_suffix(".svg")]
    if in_docs:
        report.PAGE.write_text(page)
        pictures.append(report.PAGE.with_name(report.PLOT))
    if "side_by_side" in studies and "delayed" in studies:
        # Only here, as only a whole run needs matplotlib.
        from benchmarks import plot

        for picture in pictures:
            plot.draw(studies["side_by_side"], studies["delayed"], picture)
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
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"which of {', '.join(STUDIES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="the same code in minutes; leaves docs/ alone")
    parser.add_argument("--delay", metavar="MS,MS", help="milliseconds to put before the database: 1,5,20")
    parser.add_argument("--rounds", type=int, help="turns of each contender at each operation")
    parser.add_argument("--seconds", type=float, help="seconds of a turn")
    parser.add_argument("--clients", type=int, help="connections that send requests")
    parser.add_argument("--from", dest="found", type=Path, nargs="+", metavar="FILE", help="only report these results")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results", help="folder for the results")
    given = parser.parse_args(arguments)
    if unknown := set(given.studies) - set(STUDIES):
        parser.error(f"there is no study {', '.join(sorted(unknown))}")
    return given


def _without_output(arguments: Sequence[str]) -> list[str]:
    """Where the results went matters only here."""
    words = list(arguments)
    if "--output" in words:
        at = words.index("--output")
        del words[at : at + 2]
    return words


def _options(given: argparse.Namespace) -> Options:
    chosen: dict[str, Any] = {"quick": given.quick} | (QUICK if given.quick else {})
    chosen |= {name: value for name in ("rounds", "seconds", "clients") if (value := getattr(given, name)) is not None}
    if given.delay is not None:
        chosen["delays"] = tuple(float(delay) for delay in given.delay.split(","))
    return Options(**chosen)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command tells what it does


if __name__ == "__main__":
    main(sys.argv[1:])
