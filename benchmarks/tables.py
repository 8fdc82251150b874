"""Means, goals and Markdown tables, for studies and reports."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log


@dataclass(frozen=True)
class Goal:
    """A figure that a study has to reach."""

    text: str
    measured: str
    met: bool


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [log(value) for value in values]
    return exp(sum(logarithms) / len(logarithms))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; every column but the first is aligned to the right, as numbers are."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
