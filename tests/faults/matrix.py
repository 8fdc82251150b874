"""The scenarios of the fault matrix: what a scenario is, what it is given, and what it reports."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


class Skipped(Exception):
    """The machine lacks something that the scenario needs; the text names it."""


@dataclass
class Result:
    """Counts and measurements of one scenario."""

    rounds: int = 0
    """Times that the fault was made."""
    acknowledged: int = 0
    """Writes that were answered with success."""
    lost: int = 0
    """Acknowledged writes that are not in the database."""
    doubled: int = 0
    """Writes that were done twice."""
    unavailable: int = 0
    """Responses of 503 with `Retry-After`, which are allowed while a fault lasts."""
    failed: int = 0
    """Everything else that the scenario forbids: other 5xx, cut connections, and 503 where none is allowed."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of each fault to the first success after it."""
    leaked: int = 0
    """Connections, sockets and tasks beyond the limit, or beyond those that were open before the fault."""
    figures: dict[str, str] = field(default_factory=dict)
    """Other measurements, by name."""
    violations: list[str] = field(default_factory=list)
    """Events that must never happen, in the short form neither."""
    missed: list[str] = field(default_factory=list)
    """Goals about time or rate that were missed; a busy machine may be the reason."""
    seconds: float = 0.0
    skipped: str = ""
    """The reason why the scenario was not run."""

    def expect(self, condition: bool, text: str) -> None:
        """Adds the text as a violation unless the condition holds."""
        if not condition:
            self.violations.append(text)

    def goal(self, met: bool, text: str) -> None:
        """Adds the text as a missed goal unless the goal was met."""
        if not met:
            self.missed.append(text)

    def passes(self, *, quick: bool) -> bool:
        """False after a violation and, except in the short form, after a missed goal."""
        is_whole = not (self.violations or self.lost or self.doubled or self.failed or self.leaked)
        return is_whole and (quick or not self.missed)


@dataclass(frozen=True)
class Run:
    """The conditions of a run: an empty folder for this scenario alone, and the form."""

    folder: Path
    quick: bool = False

    def rounds(self, full: int, quick: int) -> int:
        return quick if self.quick else full


type Body = Callable[[Run, Result], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    name: str
    goal: str
    body: Body
    """Makes the fault and fills in the result. Raises `Skipped` on a machine that cannot run it."""


SCENARIOS: dict[str, Scenario] = {}
"""All scenarios by name, in the order in which their modules were imported."""


def scenario(name: str, goal: str) -> Callable[[Body], Body]:
    """Registers a function as the body of a scenario."""

    def register(body: Body) -> Body:
        assert name not in SCENARIOS, f"two scenarios are called {name}"
        SCENARIOS[name] = Scenario(name, goal, body)
        return body

    return register
