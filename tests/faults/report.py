"""Results of scenarios, as lines on the console and as tables in the documentation."""

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import indent
from typing import Self

import psutil

from benchmarks import machine
from benchmarks.tables import markdown
from persistence.development import embedded_postgres
from tests.faults import pgbouncer
from tests.faults.matrix import SCENARIOS, Result
from tests.support import citus

SHOWN = 20
"""Violations of one scenario that are reported."""
LINE = 400
"""Characters in the documentation for one problem."""
FEW = 3
"""Problems of one scenario at the end of the output."""
FORBIDDEN = ("lost", "doubled", "failed", "leaked")
COUNTS = ("rounds", "acknowledged", "lost", "doubled", "failed", "unavailable")
PACKAGES = ("django", "django-ninja", "gunicorn", "psycopg", "sqlalchemy", "sqlmodel", "uvloop")
HEADER = (
    "Scenario", "Rounds", "Acknowledged", "Lost", "Doubled", "Failed", "503", "Recovery p50 / p99", "Leaked", "Met",
)  # fmt: skip


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def recovery(seconds: Sequence[float]) -> str:
    return f"{quantile(seconds, 0.5) * 1000:,.0f} / {quantile(seconds, 0.99) * 1000:,.0f} ms" if seconds else ""


def summary(name: str, result: Result, *, quick: bool) -> str:
    """The lines on the console for one scenario."""
    if result.skipped:
        return f"skipped {name}: {result.skipped}"
    word = "ok" if result.passes(quick=quick) else "FAILED"
    facts = [f"{getattr(result, count):,} {count}" for count in (*COUNTS, "leaked")]
    facts += [f"recovery {recovery(result.recoveries)}"] if result.recoveries else []
    facts += [f"{figure} {value}" for figure, value in result.figures.items()]
    problems = (f"  {problem}" for problem in _problems(result))
    return "\n".join([f"{word:7} {name} ({result.seconds:.0f} s): {', '.join(facts)}", *problems])


def failure(name: str, result: Result) -> str:
    """The reason why a scenario failed, in a few lines."""
    counts = ", ".join(f"{number:,} {word}" for word in FORBIDDEN if (number := getattr(result, word)))
    problems = [_shorten(problem) for problem in _problems(result)]
    more = [f"{len(problems) - FEW:,} more in the output above"] if len(problems) > FEW else []
    return "\n  ".join([f"FAILED  {name}", *filter(None, [counts]), *problems[:FEW], *more])


@dataclass
class Report:
    """The newest result of each scenario, from one or more runs."""

    quick: bool
    commands: list[str] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    results: dict[str, Result] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        stored = json.loads(file.read_text())
        return cls(**{**stored, "results": {name: Result(**each) for name, each in stored["results"].items()}})

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1))

    def page(self) -> str:
        """The section of the documentation: commands, machine, results, other measurements, and problems."""
        results = {name: self.results[name] for name in SCENARIOS if name in self.results}
        minutes = sum(each.seconds for each in results.values()) / 60
        form = ", in the short form" if self.quick else ""
        details = [[name, SCENARIOS[name].goal, _figures(each)] for name, each in results.items()]
        parts = [
            indent("\n".join(self.commands), "    "),
            f"on {self.date}{form}, {minutes:.0f} minutes in all, on this machine:",
            _text_table(["Part", "Version"], _machine()),
            markdown(HEADER, [_cells(name, each) for name, each in results.items()]),
            _text_table(["Scenario", "Goal", "Measured"], details),
        ]
        problems = [f"- **{name}**: {_shorten(text)}" for name, each in results.items() for text in _problems(each)]
        if problems:
            parts.append("Problems:\n\n" + "\n".join(problems))
        return "\n\n".join(parts)


def _problems(result: Result) -> list[str]:
    problems = [f"violation: {text}" for text in result.violations[:SHOWN]]
    problems += [f"{len(result.violations):,} violations in all"] if len(result.violations) > SHOWN else []
    return problems + [f"goal missed: {text}" for text in result.missed]


def _cells(name: str, result: Result) -> list[str]:
    if result.skipped:
        return [name, *[""] * (len(HEADER) - 2), "not run"]
    counts = [f"{getattr(result, count):,}" for count in COUNTS]
    met = "yes" if result.passes(quick=False) else "**no**"
    return [name, *counts, recovery(result.recoveries), str(result.leaked), met]


def _figures(result: Result) -> str:
    if result.skipped:
        return f"not run: {result.skipped}"
    return "; ".join(f"{figure}: {value}" for figure, value in result.figures.items())


def _text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are aligned to the left."""
    return markdown(header, rows).replace("---:", "---", len(header) - 1)


def _shorten(text: str) -> str:
    """The text in one line. A traceback is most useful at its end."""
    words = " ".join(text.split())
    return words if len(words) <= LINE else f"{words[: LINE // 2]} ... {words[-LINE // 2 :]}"


def _machine() -> list[list[str]]:
    # The description in `benchmarks` also reads the versions of packages that are not installed here.
    programs = {"PostgreSQL": [str(embedded_postgres._binaries() / "postgres"), "--version"]}
    if program := pgbouncer.PROGRAM:
        programs["PgBouncer"] = [program, "--version"]
    outputs = {
        name: subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].split()[-1]
        for name, command in programs.items()
    }
    return [
        ["processor", f"{machine._processor()}, {psutil.cpu_count()} cores"],
        ["memory", f"{psutil.virtual_memory().total / 2**30:.0f} GB"],
        ["system", machine._system()],
        ["Python", platform.python_version()],
        *([name, output] for name, output in outputs.items()),
        *(["Citus", citus.version(server)] for server in citus.servers()[:1]),
        ["packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)],
    ]
