"""The plot of the page: the cost of a request, and the effect of the delay before the database."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks import delayed
from benchmarks.contenders import THIS_PROJECT, TITLES
from benchmarks.operations import MIX, OPERATIONS

mpl.use("svg")
# Equal figures make equal files.
mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402 - the backend has to be chosen first
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402 - as above

COLOURS = ("#0b6e4f", "#c8553d", "#e0a030", "#8d6a9f", "#3c3c3c", "#9a9a9a", "#4a7fb5", "#a9c4de")
_SHORT = {"filtered": "list 100\nfiltered", "mix": "mix"}


def draw(side_by_side: dict[str, Any], with_delay: dict[str, Any], path: Path) -> None:
    figure, (costs, delays) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(3, 2))
    _draw_costs(costs, side_by_side["operations"])
    _draw_delays(delays, with_delay["delays"], with_delay["clients"])
    figure.legend(*costs.get_legend_handles_labels(), loc="lower center", ncols=len(TITLES), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _draw_costs(axes: Any, cells: dict[str, Any]) -> None:
    width = 0.8 / len(TITLES)
    for place, ((name, title), colour) in enumerate(zip(TITLES.items(), COLOURS, strict=True)):
        places = [number + place * width for number in range(len(OPERATIONS))]
        heights = [_relative(cells[operation.name], name) for operation in OPERATIONS]
        axes.bar(places, heights, width, label=title, color=colour)
    names = [_SHORT.get(operation.name, operation.title) for operation in OPERATIONS]
    axes.set_xticks([number + 0.4 - width / 2 for number in range(len(names))], names)
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set_title("Server CPU per request over this project's (less is better)")


def _relative(cells: dict[str, Any], name: str) -> float:
    relative: float = cells[name]["server_cpu"] / cells[THIS_PROJECT.name]["server_cpu"]
    return relative


def _draw_delays(axes: Any, delays: dict[str, Any], clients: int) -> None:
    assert MIX in delayed.OPERATIONS
    for (name, title), colour in zip(TITLES.items(), COLOURS, strict=True):
        rates = [cells[MIX.name][name]["rate"] for cells in delays.values()]
        axes.plot(list(delays), rates, marker="o", label=title, color=colour)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True, axis="y", color="#dddddd")
    axes.set_xlabel("milliseconds added to each round trip to the database")
    axes.set_title(f"Requests/s of the mix, {clients} clients (more is better)")
