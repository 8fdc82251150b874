"""What came of the rows, as lines for whoever waits and as tables for the page."""

import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from textwrap import indent
from typing import Any

import psutil

from benchmarks import machine
from benchmarks.tables import markdown
from persistence.development import embedded_postgres
from tests.faults import pgbouncer
from tests.faults.matrix import Fault, Result

LINE = 400
"""Characters of the page that one trouble may take."""
_PACKAGES = ("django", "django-ninja", "gunicorn", "psycopg", "sqlalchemy", "sqlmodel", "uvloop")
_HEADER = (
    "Fault", "Rounds", "Acknowledged", "Lost", "Doubled", "Failed", "503", "Recovery p50 / p99", "Leaked", "Met",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One row as it ran; `skipped` and `error` say why there is no result."""

    name: str
    goal: str
    seconds: float
    result: Result = field(default_factory=Result)
    skipped: str = ""
    error: str = ""

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> "Outcome":
        return cls(**{**stored, "result": Result(**stored["result"])})

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    def is_fine(self, *, quick: bool) -> bool:
        """Whether the run may pass with this; missed goals about time are a matter of the full form."""
        return not self.error and self.result.is_whole and (quick or not self.result.missed)

    @property
    def met(self) -> str:
        if self.skipped:
            return "not run"
        return "yes" if self.is_fine(quick=False) else "**no**"

    def line(self, *, quick: bool) -> str:
        word = "skipped" if self.skipped else "ok" if self.is_fine(quick=quick) else "FAILED"
        details = self.skipped
        if not self.skipped:
            names = ("rounds", "acknowledged", "lost", "doubled", "failed")
            counts = [f"{getattr(self.result, name):,} {name}" for name in names]
            counts += [f"{self.result.unavailable:,} x 503", f"{self.result.leaked} leaked"]
            counts += [f"recovery {recovery(self.result.recoveries)}"] if self.result.recoveries else []
            details = ", ".join([*counts, *(f"{name} {value}" for name, value in self.result.figures.items())])
        return "\n".join([f"{word:7} {self.name} ({self.seconds:.0f} s): {details}", *self.troubles()])

    def troubles(self) -> list[str]:
        """Everything that is not as it should be, a line each."""
        result = self.result
        found = [f"  violation: {text}" for text in result.violations]
        found += [f"  goal missed: {text}" for text in result.missed]
        return found + ([f"  {self.error}"] if self.error else [])


def outcome(
    fault: Fault, seconds: float, result: Result | None = None, *, skipped: str = "", error: str = ""
) -> Outcome:
    return Outcome(fault.name, fault.goal, round(seconds, 1), result or Result(), skipped, error)


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all does not exceed; the largest where there are few."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def recovery(seconds: Sequence[float]) -> str:
    if not seconds:
        return ""
    return f"{quantile(seconds, 0.5) * 1000:,.0f} / {quantile(seconds, 0.99) * 1000:,.0f} ms"


def table(outcomes: Sequence[Outcome]) -> str:
    return markdown(_HEADER, [_cells(each) for each in outcomes])


def _cells(each: Outcome) -> list[str]:
    result = each.result
    if each.skipped:
        return [each.name, *[""] * (len(_HEADER) - 2), each.met]
    counts = (result.rounds, result.acknowledged, result.lost, result.doubled, result.failed, result.unavailable)
    cells = [f"{count:,}" for count in counts]
    return [each.name, *cells, recovery(result.recoveries), str(result.leaked), each.met]


def page(found: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """All of a run, for the page: on what it was, the table, what else was measured, and what was not met."""
    minutes = sum(each.seconds for each in outcomes) / 60
    form = ", in the short form" if found["quick"] else ""
    details = [[each.name, each.goal, _figures(each)] for each in outcomes]
    parts = [
        indent(found["command"], "    "),
        f"on {found['started'][:10]}{form}, {minutes:.0f} minutes in all, on this machine:",
        _words(["What", "Which"], found["machine"]),
        table(outcomes),
        _words(["Fault", "Goal", "Measured"], details),
    ]
    troubles = [f"- **{each.name}**: {_short(text)}" for each in outcomes for text in each.troubles()]
    if troubles:
        parts.append("What was not met:\n\n" + "\n".join(troubles))
    return "\n\n".join(parts)


def _words(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of words, which are not aligned as numbers are."""
    return markdown(header, rows).replace("---:", "---", len(header) - 1)


def _short(text: str) -> str:
    """In one line; of a traceback its end tells the most."""
    words = " ".join(text.split())
    return words if len(words) <= LINE else f"{words[: LINE // 2]} ... {words[-LINE // 2 :]}"


def _figures(each: Outcome) -> str:
    if each.skipped:
        return f"not run: {each.skipped}"
    return "; ".join(f"{name}: {value}" for name, value in each.result.figures.items())


def describe() -> list[list[str]]:
    """On what it runs: rows of a table."""
    # The benchmarks' own description also asks for the packages of the contenders, who are not needed here.
    postgres = subprocess.run(
        [embedded_postgres._binaries() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    rows = [
        ["processor", f"{machine._processor()}, {psutil.cpu_count()} cores"],
        ["memory", f"{psutil.virtual_memory().total / 2**30:.0f} GB"],
        ["system", machine._system()],
        ["Python", platform.python_version()],
        ["PostgreSQL", postgres.stdout.split()[-1]],
    ]
    if pgbouncer.available():
        bouncer = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True, check=True)
        rows.append(["PgBouncer", bouncer.stdout.split()[1]])
    return [*rows, ["packages", ", ".join(f"{name} {version(name)}" for name in _PACKAGES)]]
