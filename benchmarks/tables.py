"""What studies and report make tables with: means, goals, Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log


@dataclass(frozen=True)
class Goal:
    """Something that a study was to show, and whether it did."""

    text: str
    measured: str
    met: bool


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [log(value) for value in values]
    return exp(sum(logarithms) / len(logarithms))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every column but the first is aligned to the right, as numbers are."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
