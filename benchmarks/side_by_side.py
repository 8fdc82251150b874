"""The study that compares the contenders: each operation, in turns, on one database."""

from functools import partial
from typing import Any

from benchmarks import sameness
from benchmarks.contenders import BARE_LIMIT, DRF, FASTAPI, LIMIT, NINJA, PRODUCT, TITLES
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

_ABOVE = (FASTAPI, NINJA, DRF)
_BELOW = (LIMIT, BARE_LIMIT)


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
    against_fastapi = [ratios[FASTAPI.name] for ratios in _cpu_ratios(result).values()]
    against_limit = [ratios[LIMIT.name] for ratios in _cpu_ratios(result).values()]
    mean, least, limit = geometric_mean(against_fastapi), min(against_fastapi), geometric_mean(against_limit)
    trips = {cells[PRODUCT.name]["round_trips"] for cells in result["operations"].values()}
    return [
        Goal("server CPU of FastAPI + SQLModel over the product's, geometric mean: 3.5", f"{mean:.2f}", mean >= 3.5),
        Goal("the same, for each operation: 3", f"{least:.2f} at least", least >= 3),
        Goal("server CPU of the product over the limit's, geometric mean: 2.2 at most", f"{limit:.2f}", limit <= 2.2),
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


def _cpu_ratios(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By operation and contender: above 1 is always what the larger one has more of."""
    ratios = {}
    for operation, cells in result["operations"].items():
        cpu = {name: cell["server_cpu"] for name, cell in cells.items()}
        ours = cpu[PRODUCT.name]
        above = {peer.name: cpu[peer.name] / ours for peer in _ABOVE}
        ratios[operation] = above | {peer.name: ours / cpu[peer.name] for peer in _BELOW}
    return ratios


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
    header = ["Server CPU per request", *(f"{peer.title} / product" for peer in _ABOVE)]
    header += [f"product / {peer.title}" for peer in _BELOW]
    names = [peer.name for peer in (*_ABOVE, *_BELOW)]
    rows = [[each.title, *(f"{ratios[each.name][name]:.2f}" for name in names)] for each in OPERATIONS]
    means = [geometric_mean(row[name] for row in ratios.values()) for name in names]
    return markdown(header, [*rows, ["**geometric mean**", *(f"**{mean:.2f}**" for mean in means)]])


def _memory(result: dict[str, Any]) -> str:
    rows = [[TITLES[name], f"{size / 2**20:.0f}"] for name, size in result["memory"].items()]
    return markdown(["Memory after all of this", "MB"], rows)
