"""The study that puts a network between servers and database, as there is before a serverless one."""

from typing import Any

from benchmarks.contenders import FASTAPI, POOL, PRODUCT, TITLES
from benchmarks.delay import Proxy
from benchmarks.operations import CREATE, GET, LIST, MIX
from benchmarks.options import Options
from benchmarks.stage import course, database, take_turns
from benchmarks.tables import Goal, geometric_mean, markdown

CLIENTS = 64
"""More than there are connections to the database, so that those are what is short."""
WARM_UP = 1.0
"""Seconds, in which a server can open its connections, far away as the database is."""
ROUNDS = 2
SECONDS = 2.0
"""A request may take one of them, so that a shorter turn would be all beginning and end."""
OPERATIONS = (GET, LIST, CREATE, MIX)
QUICK_OPERATIONS = (GET, MIX)
FARTHEST = "20"
"""Milliseconds of the delay that has a goal."""


def run(options: Options) -> dict[str, Any]:
    operations = QUICK_OPERATIONS if options.quick else OPERATIONS
    results = {}
    with (
        database() as server,
        Proxy(server.port) as proxy,
        course(server, proxy.port, CLIENTS, WARM_UP) as track,
    ):
        for milliseconds in options.delays:
            proxy.delay(milliseconds)
            results[f"{milliseconds:g}"] = take_turns(track, operations, min(options.rounds, ROUNDS), SECONDS)
            proxy.delay(0)
    return {"delays": results, "clients": CLIENTS, "pool": POOL}


def table(result: dict[str, Any]) -> str:
    header = ["Operation", "delay ms", *(f"{title}, requests/s" for title in TITLES.values()), "product / FastAPI"]
    rows = []
    for delay, cells in result["delays"].items():
        for operation in (each for each in OPERATIONS if each.name in cells):
            rates = [f"{cells[operation.name][name]['rate']:,.0f}" for name in TITLES]
            rows.append([operation.title, delay, *rates, f"{_gain(cells[operation.name]):.1f}"])
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    if FARTHEST not in result["delays"]:
        return []
    gains = [_gain(cells) for cells in result["delays"][FARTHEST].values()]
    measured = f"{min(gains):.1f} at least, {geometric_mean(gains):.1f} in the geometric mean"
    return [Goal(f"throughput against FastAPI + SQLModel with {FARTHEST} ms: 3 times", measured, min(gains) >= 3)]


def _gain(cells: dict[str, Any]) -> float:
    gain: float = cells[PRODUCT.name]["rate"] / cells[FASTAPI.name]["rate"]
    return gain
