"""The capacity of nodes, calculated from what PostgreSQL needs for an operation on each way to its rows."""

from collections.abc import Mapping
from itertools import count

PLAIN, ROUTER, OWNER, DIRECT = "plain", "router", "owner", "direct"
"""One machine without Citus; a node that only routes, and the one that then has the rows; a node that does both."""

type Cost = Mapping[str, float]
"""The time on a processor by these names."""


def share(costs: Mapping[str, Cost], percent: Mapping[str, float]) -> dict[str, float]:
    """Returns the cost of a mix of operations."""
    return {
        part: sum(costs[name][part] * number / 100 for name, number in percent.items())
        for part in (PLAIN, ROUTER, OWNER, DIRECT)
    }


def on_nodes(cost: Cost, nodes: int) -> float:
    """Returns the cost when all nodes have as many rows and get as many operations, each at random.

    So one of `nodes` operations comes to the node that has its rows.
    """
    return cost[DIRECT] / nodes + (cost[ROUTER] + cost[OWNER]) * (1 - 1 / nodes)


def machines(cost: Cost, nodes: int) -> float:
    """Returns how many plain machines serve as much as so many nodes."""
    return nodes * cost[PLAIN] / on_nodes(cost, nodes)


def pays_from(cost: Cost) -> int:
    """Returns the number of nodes that serve more than one plain machine."""
    return next(nodes for nodes in count(1) if machines(cost, nodes) > 1)
