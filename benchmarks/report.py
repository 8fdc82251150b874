"""Puts results into `docs/benchmarks.md` between markers, so that the prose around them stays."""

from collections.abc import Mapping, Sequence

from benchmarks.processes import ROOT
from benchmarks.tables import Goal, markdown

PAGE = ROOT / "docs/benchmarks.md"
PLOT = "benchmarks.svg"
PLOTS = {PLOT: ("side_by_side", "delayed"), "scaling.svg": ("spread",)}
"""The studies that each plot in docs/ is drawn from."""


def fill(page: str, sections: Mapping[str, str]) -> str:
    """Replaces each section between its `<!-- begin name -->` and `<!-- end name -->`; all else stays.

    Raises `ValueError` for a section without markers.
    """
    for name, text in sections.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{PAGE.name} has no place for {name}: {begin}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def goals_table(goals: Sequence[Goal]) -> str:
    rows = [[goal.text, goal.measured, "yes" if goal.met else "**no**"] for goal in goals]
    return markdown(["Goal", "Measured", "Met"], rows)
