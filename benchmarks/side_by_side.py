"""The study that compares the contenders: each operation, in rounds, on one database."""

from functools import partial
from typing import Any

from benchmarks import environment, operations, sameness
from benchmarks.contenders import FASTAPI, FASTIFY_DRIZZLE, LOWER_BOUND, THIS_PROJECT, TITLES
from benchmarks.delay import Proxy
from benchmarks.environment import Environment
from benchmarks.operations import MIX, OPERATIONS
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import memory_bytes
from benchmarks.tables import Goal, geometric_mean, markdown

WARM_UP = 0.5
CHECKED = 5
"""Requests of each operation whose answers are compared."""


def run(options: Options) -> dict[str, Any]:
    with operations.database() as database:
        trips = _round_trips(database)
        warm_up = min(WARM_UP, options.seconds)
        with environment.running(database, database.port, options.clients, warm_up) as running:
            _check(running)
            measured = running.measure_all(OPERATIONS, options.rounds, options.seconds)
            memory = {name: memory_bytes(each.process.pid) for name, each in running.servers.items()}
    for operation, cells in measured.items():
        for name, cell in cells.items():
            cell["round_trips"] = trips[operation][name]
    return {"operations": measured, "memory": memory, "clients": options.clients}


def table(result: dict[str, Any]) -> str:
    return "\n\n".join((_ranking(result), _ratios(result), _costs(result), _memory(result)))


def goals(result: dict[str, Any]) -> list[Goal]:
    ratios = _cpu_ratios(result)
    means = {name: geometric_mean(each) for name, each in ratios.items()}
    fastapi, drizzle, bound = means[FASTAPI.name], means[FASTIFY_DRIZZLE.name], 1 / means[LOWER_BOUND.name]
    least = min(ratios[FASTAPI.name])
    trips = {cells[THIS_PROJECT.name]["round_trips"] for cells in result["operations"].values()}
    over = "over this project's, geometric mean"
    under = "server CPU of this project over the lower bound's, geometric mean"
    return [
        Goal(f"server CPU of FastAPI + SQLModel {over}: 5", f"{fastapi:.2f}", fastapi >= 5),
        Goal("the same, for each operation: 3", f"{least:.2f} at least", least >= 3),
        Goal(f"server CPU of Fastify + Drizzle {over}: 1.2", f"{drizzle:.2f}", drizzle >= 1.2),
        Goal(f"{under}: 1.8 at most", f"{bound:.2f}", bound <= 1.8),
        Goal("round trips of each operation: 1", " to ".join(f"{n:g}" for n in sorted(trips)), trips == {1.0}),
    ]


def _check(running: Environment) -> None:
    """Raises `sameness.Differs`. The mix needs no check, as it consists of the other operations."""
    for operation in OPERATIONS:
        if operation is not MIX:
            requests = operation.requests(CHECKED, seed=7)
            sameness.check(running.servers, operation, requests, partial(running.reset, requests))


def _round_trips(database: Postgres) -> dict[str, dict[str, float]]:
    with (
        Proxy(database.port) as proxy,
        environment.running(database, proxy.port, clients=1, warm_up=0) as running,
    ):
        return {
            operation.name: {name: running.round_trips(name, operation, proxy) for name in running.servers}
            for operation in OPERATIONS
        }


def _cpu_ratios(result: dict[str, Any]) -> dict[str, list[float]]:
    """Returns the server CPU of each other contender over this project's, for each operation."""
    cells = [result["operations"][operation.name] for operation in OPERATIONS]
    others = [name for name in TITLES if name != THIS_PROJECT.name]
    return {
        name: [each[name]["server_cpu"] / each[THIS_PROJECT.name]["server_cpu"] for each in cells] for name in others
    }


def _ranking(result: dict[str, Any]) -> str:
    """Says which contenders need less server CPU than this project, and which need more."""
    means = {TITLES[name]: geometric_mean(ratios) for name, ratios in _cpu_ratios(result).items()}
    ranked = sorted(means.items(), key=lambda each: each[1])
    less = [f"{title} ({mean:.2f})" for title, mean in ranked if mean < 1]
    more = [f"{title} ({mean:.2f})" for title, mean in ranked if mean >= 1]
    return (
        "Server CPU over this project's, in the geometric mean.\n\n"
        f"- Faster than this project: {', '.join(less) or 'none'}.\n- Slower: {', '.join(more) or 'none'}."
    )


def _ratios(result: dict[str, Any]) -> str:
    ratios = _cpu_ratios(result)
    by_operation = zip(OPERATIONS, zip(*ratios.values(), strict=True), strict=True)
    rows = [[operation.title, *(f"{ratio:.2f}" for ratio in row)] for operation, row in by_operation]
    means = [f"**{geometric_mean(each):.2f}**" for each in ratios.values()]
    header = ["Server CPU over this project's", *(TITLES[name] for name in ratios)]
    return markdown(header, [*rows, ["**geometric mean**", *means]])


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


def _memory(result: dict[str, Any]) -> str:
    rows = [[TITLES[name], f"{size / 2**20:.0f}"] for name, size in result["memory"].items()]
    return markdown(["Memory at the end", "MB"], rows)
