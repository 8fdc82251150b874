"""What a row of the matrix is, what it is given, and what it reports."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


class Skipped(Exception):
    """The row needs what this machine lacks, which the text names."""


@dataclass
class Result:
    """What a row counted and measured."""

    rounds: int = 0
    """How often the fault was made."""
    acknowledged: int = 0
    """Writes that were answered with success."""
    lost: int = 0
    """Of these, those that are not in the database."""
    doubled: int = 0
    unavailable: int = 0
    """Answers of 503 with `Retry-After`, allowed while a fault lasts."""
    failed: int = 0
    """Everything else that the row forbids: other 5xx, cut connections, and 503 where none may be."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of each fault to the first success after it."""
    leaked: int = 0
    """Connections, sockets and tasks that were left after the fault, beyond the limit or what was there before."""
    figures: dict[str, str] = field(default_factory=dict)
    """What else was measured."""
    violations: list[str] = field(default_factory=list)
    """What must never happen, in the short form neither."""
    missed: list[str] = field(default_factory=list)
    """Goals about time or rate that were missed, for which a shared machine may be the reason."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing happened that must never happen."""
        return not (self.violations or self.lost or self.doubled or self.failed or self.leaked)

    def expect(self, condition: bool, text: str) -> None:
        """Unless the condition holds, the text is a violation."""
        if not condition:
            self.violations.append(text)

    def goal(self, met: bool, text: str) -> None:
        """Unless it was met, the text is a missed goal."""
        if not met:
            self.missed.append(text)


@dataclass(frozen=True)
class Stage:
    """What a row is given: an empty folder of its own, and how much time it may take."""

    folder: Path
    quick: bool = False

    def rounds(self, full: int, quick: int) -> int:
        return quick if self.quick else full


type Row = Callable[[Stage], Awaitable[Result]]


@dataclass(frozen=True)
class Fault:
    """A row of the matrix: `run` raises `Skipped` where it cannot be run."""

    name: str
    goal: str
    run: Row


FAULTS: dict[str, Fault] = {}
"""All rows by name, in the order in which their modules were imported."""


def fault(name: str, goal: str) -> Callable[[Row], Row]:
    """Makes a function a row of the matrix."""

    def register(run: Row) -> Row:
        if name in FAULTS:
            raise ValueError(f"two rows are called {name}")
        FAULTS[name] = Fault(name, goal, run)
        return run

    return register
