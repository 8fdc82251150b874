"""The study that puts a network delay between servers and database, as there is before a serverless database."""

from typing import Any

from benchmarks import environment, operations
from benchmarks.contenders import FASTAPI, POOL, THIS_PROJECT, TITLES
from benchmarks.delay import Proxy
from benchmarks.operations import CREATE, GET, LIST, MIX
from benchmarks.options import Options
from benchmarks.tables import Goal, geometric_mean, markdown

CLIENTS = 64
"""More clients than database connections, so that connections are the scarce resource."""
WARM_UP = 1.0
"""Seconds in which a server opens its connections, which takes longer with the delay."""
ROUNDS = 2
SECONDS = 2.0
"""A request can take one second, so that a shorter measurement would consist of its beginning and its end."""
OPERATIONS = (GET, LIST, CREATE, MIX)
QUICK_OPERATIONS = (GET, MIX)
LONGEST = "20"
"""Milliseconds of the delay that has a goal."""


def run(options: Options) -> dict[str, Any]:
    chosen = QUICK_OPERATIONS if options.quick else OPERATIONS
    results = {}
    with (
        operations.database() as database,
        Proxy(database.port) as proxy,
        environment.running(database, proxy.port, CLIENTS, WARM_UP) as running,
    ):
        for milliseconds in options.delays:
            proxy.delay(milliseconds)
            results[f"{milliseconds:g}"] = running.measure_all(chosen, min(options.rounds, ROUNDS), SECONDS)
            proxy.delay(0)
    return {"delays": results, "clients": CLIENTS, "pool": POOL}


def table(result: dict[str, Any]) -> str:
    header = [
        "Operation", "delay ms", *(f"{title}, requests/s" for title in TITLES.values()), "this project / FastAPI",
    ]  # fmt: skip
    rows = []
    for delay, cells in result["delays"].items():
        for operation in (each for each in OPERATIONS if each.name in cells):
            rates = [f"{cells[operation.name][name]['rate']:,.0f}" for name in TITLES]
            rows.append([operation.title, delay, *rates, f"{_gain(cells[operation.name]):.1f}"])
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    if LONGEST not in result["delays"]:
        return []
    gains = [_gain(cells) for cells in result["delays"][LONGEST].values()]
    measured = f"{min(gains):.1f} at least, {geometric_mean(gains):.1f} in the geometric mean"
    return [Goal(f"throughput over that of FastAPI + SQLModel with {LONGEST} ms: 3", measured, min(gains) >= 3)]


def _gain(cells: dict[str, Any]) -> float:
    gain: float = cells[THIS_PROJECT.name]["rate"] / cells[FASTAPI.name]["rate"]
    return gain
