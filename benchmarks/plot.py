"""The plots of the pages: the cost of a request beside other contenders, and that of several nodes."""

from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl

from benchmarks import capacity, delayed
from benchmarks.calls import MIX as SHARES
from benchmarks.capacity import DIRECT, OWNER, PLAIN, ROUTER
from benchmarks.contenders import THIS_PROJECT, TITLES
from benchmarks.operations import MIX, OPERATIONS

mpl.use("svg")
# Equal figures make equal files.
mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402 - the backend has to be chosen first
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402 - as above

COLOURS = ("#0b6e4f", "#c8553d", "#e0a030", "#8d6a9f", "#3c3c3c", "#9a9a9a", "#4a7fb5", "#a9c4de")
MOST_NODES = 16
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


def draw_nodes(spread: dict[str, Any], path: Path) -> None:
    """Draws the cost of an operation on a spread database, and how much so many nodes serve."""
    figure, (costs, machines) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(3, 2))
    mix = capacity.share(spread["operations"], SHARES)
    _draw_ways(costs, spread["operations"] | {"mix": mix})
    _draw_machines(machines, mix, spread["mix"])
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _draw_ways(axes: Any, costs: dict[str, capacity.Cost]) -> None:
    router, owner, direct = ([cost[part] / cost[PLAIN] for cost in costs.values()] for part in (ROUTER, OWNER, DIRECT))
    places = range(len(costs))
    axes.bar(places, router, 0.4, label="a node that routes ...", color=COLOURS[2])
    axes.bar(places, owner, 0.4, bottom=router, label="... and the one that has the rows", color=COLOURS[1])
    axes.bar([place + 0.4 for place in places], direct, 0.4, label="the node that has the rows alone", color=COLOURS[0])
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set_xticks([place + 0.2 for place in places], ["\n".join(wrap(name, 9)) for name in costs])
    axes.set_title("PostgreSQL's CPU over that of plain PostgreSQL (less is better)")
    axes.legend(frameon=False)


def _draw_machines(axes: Any, cost: capacity.Cost, measured: dict[str, float]) -> None:
    nodes = range(1, MOST_NODES + 1)
    axes.plot(nodes, [capacity.machines(cost, each) for each in nodes], label="calculated", color=COLOURS[1])
    ideal = [each * cost[PLAIN] / cost[DIRECT] for each in nodes]
    axes.plot(nodes, ideal, "--", label="the same, if each came to its owner's node", color=COLOURS[0])
    points = {int(name): int(name) * measured[PLAIN] / each for name, each in measured.items() if name != PLAIN}
    axes.plot([*points], [*points.values()], "o", label="measured", color=COLOURS[4])
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set_xlabel("nodes with shards, each of which takes requests")
    axes.set_title("The mix: capacity in plain machines (more is better)")
    axes.grid(visible=True, axis="y", color="#dddddd")
    axes.legend(frameon=False)


DRAW: dict[str, Callable[..., None]] = {"benchmarks.svg": draw, "scaling.svg": draw_nodes}
"""What draws each of `report.PLOTS`."""
