"""The study of this project's server alone: start, connections, concurrent clients, writers, memory."""

from typing import Any

from benchmarks import concurrency, operations, reads_under_writes, soak, startup, steady
from benchmarks.options import Options
from benchmarks.tables import Goal

_PARTS = {
    "startup": startup,
    "steady": steady,
    "concurrency": concurrency,
    "reads_under_writes": reads_under_writes,
    "soak": soak,
}


def run(options: Options) -> dict[str, Any]:
    with operations.database() as database:
        return {name: part.run(options, database) for name, part in _PARTS.items()}


def table(result: dict[str, Any]) -> str:
    return "\n\n".join(part.table(result[name]) for name, part in _PARTS.items())


def goals(result: dict[str, Any]) -> list[Goal]:
    return [goal for name, part in _PARTS.items() for goal in part.goals(result[name])]
