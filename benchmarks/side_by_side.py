"""The study that compares the contenders: each operation, in turns, on one database."""

from functools import partial
from typing import Any

from benchmarks import sameness
from benchmarks.contenders import FASTAPI, FASTIFY_DRIZZLE, LIMIT, PRODUCT, TITLES
from benchmarks.delay import Proxy
from benchmarks.operations import MIX, OPERATIONS
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import memory_bytes
from benchmarks.stage import course, database, take_turns
from benchmarks.tables import Goal, geometric_mean, markdown
from benchmarks.turns import Course

WARM_UP = 0.5
CHECKED = 5
"""Requests of each operation whose answers are compared."""


def run(options: Options) -> dict[str, Any]:
    with database() as server:
        trips = _round_trips(server)
        with course(server, server.port, options.clients, min(WARM_UP, options.seconds)) as track:
            _check(track)
            turns = take_turns(track, OPERATIONS, options.rounds, options.seconds)
            memory = {name: memory_bytes(each.process.pid) for name, each in track.servers.items()}
    for operation, cells in turns.items():
        for name, cell in cells.items():
            cell["round_trips"] = trips[operation][name]
    return {"operations": turns, "memory": memory, "clients": options.clients}


def table(result: dict[str, Any]) -> str:
    return "\n\n".join((_costs(result), _ratios(result), _memory(result)))


def goals(result: dict[str, Any]) -> list[Goal]:
    ratios = _cpu_ratios(result)
    mean, least = geometric_mean(ratios[FASTAPI.name]), min(ratios[FASTAPI.name])
    drizzle = geometric_mean(ratios[FASTIFY_DRIZZLE.name])
    bound = 1 / geometric_mean(ratios[LIMIT.name])
    trips = {cells[PRODUCT.name]["round_trips"] for cells in result["operations"].values()}
    return [
        Goal("server CPU of FastAPI + SQLModel over this project's, geometric mean: 5", f"{mean:.2f}", mean >= 5),
        Goal("the same, for each operation: 3", f"{least:.2f} at least", least >= 3),
        Goal(
            "server CPU of Fastify + Drizzle over this project's, geometric mean: 1.2", f"{drizzle:.2f}", drizzle >= 1.2
        ),
        Goal(
            "server CPU of this project over the lower bound's, geometric mean: 1.8 at most",
            f"{bound:.2f}",
            bound <= 1.8,
        ),
        Goal("round trips of each operation: 1", " to ".join(f"{n:g}" for n in sorted(trips)), trips == {1.0}),
    ]


def _check(track: Course) -> None:
    """Raises `sameness.Differs`. The mix is made of the others."""
    for operation in OPERATIONS:
        if operation is not MIX:
            requests = operation.requests(CHECKED, seed=7)
            sameness.check(track.servers, operation, requests, partial(track.reset, requests))


def _round_trips(server: Postgres) -> dict[str, dict[str, float]]:
    with Proxy(server.port) as proxy, course(server, proxy.port, clients=1, warm_up=0) as track:
        return {
            operation.name: {name: track.round_trips(name, operation, proxy) for name in track.servers}
            for operation in OPERATIONS
        }


def _cpu_ratios(result: dict[str, Any]) -> dict[str, list[float]]:
    """Returns the server CPU of each other contender over this project's, for each operation."""
    cells = [result["operations"][operation.name] for operation in OPERATIONS]
    others = [name for name in TITLES if name != PRODUCT.name]
    return {name: [each[name]["server_cpu"] / each[PRODUCT.name]["server_cpu"] for each in cells] for name in others}


def _costs(result: dict[str, Any]) -> str:
    rows = []
    for operation in OPERATIONS:
        title = operation.title
        for name, cell in result["operations"][operation.name].items():
            rows.append([
                title, TITLES[name], f"{cell['rate']:,.0f}", f"{cell['p50']:.1f}", f"{cell['p99']:.1f}",
                f"{cell['server_cpu']:.3f}", f"{cell['postgres_cpu']:.3f}", f"{cell['round_trips']:.3g}",
            ])  # fmt: skip
            title = ""
    header = [
        "Operation", "Contender", "requests/s", "p50 ms", "p99 ms", "server CPU ms", "PostgreSQL CPU ms", "round trips",
    ]  # fmt: skip
    return markdown(header, rows)


def _ratios(result: dict[str, Any]) -> str:
    ratios = _cpu_ratios(result)
    by_operation = zip(OPERATIONS, zip(*ratios.values(), strict=True), strict=True)
    rows = [[operation.title, *(f"{ratio:.2f}" for ratio in row)] for operation, row in by_operation]
    means = [f"**{geometric_mean(each):.2f}**" for each in ratios.values()]
    header = ["Server CPU per request over this product's", *(TITLES[name] for name in ratios)]
    return markdown(header, [*rows, ["**geometric mean**", *means]])


def _memory(result: dict[str, Any]) -> str:
    rows = [[TITLES[name], f"{size / 2**20:.0f}"] for name, size in result["memory"].items()]
    return markdown(["Memory after all of this", "MB"], rows)
