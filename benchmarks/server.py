"""The study of one server, which nobody else is compared with: connections, crowds, writers, memory, start."""

from typing import Any

from benchmarks import beside_writes, crowd, endurance, stage, startup, steady
from benchmarks.options import Options
from benchmarks.tables import Goal

_PARTS = {
    "startup": startup,
    "steady": steady,
    "crowd": crowd,
    "beside_writes": beside_writes,
    "endurance": endurance,
}


def run(options: Options) -> dict[str, Any]:
    with stage.database() as database:
        return {name: part.run(options, database) for name, part in _PARTS.items()}


def table(result: dict[str, Any]) -> str:
    return "\n\n".join(part.table(result[name]) for name, part in _PARTS.items())


def goals(result: dict[str, Any]) -> list[Goal]:
    return [goal for name, part in _PARTS.items() for goal in part.goals(result[name])]
