"""The study of what sign-in costs: clients with a token beside clients without one, and a token's first request."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from statistics import median
from typing import Any

from benchmarks import clients, data, environment, operations, sameness
from benchmarks.client import Workload
from benchmarks.contenders import THIS_PROJECT, Contender
from benchmarks.delay import Proxy
from benchmarks.environment import Environment
from benchmarks.operations import GET, LARGE_USERS, MIX, OPERATIONS, USERS, Request
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import cpu_seconds
from benchmarks.tables import Goal, geometric_mean, markdown
from tests.support.issuer import Issuer

ALONE, SIGNED_IN = "alone", "signed_in"
WARM_UP = 0.5
CHECKED = 5
"""Requests of each operation whose answers are compared."""
LIFETIME = 6 * 3600
"""Seconds that a token lives, which is longer than the study takes."""
TOKENS, QUICK_TOKENS = 1000, 200
"""Tokens of a round whose first requests are measured."""
CPU_GOAL, FIRST_GOAL = 1.06, 0.25


def run(options: Options) -> dict[str, Any]:
    with operations.database() as database, Issuer() as issuer:
        with Proxy(database.port) as proxy, _running(database, proxy.port, issuer, 1, 0) as running:
            trips = {each.name: running.round_trips(SIGNED_IN, each, proxy) for each in OPERATIONS}
        with _running(database, database.port, issuer, options.clients, min(WARM_UP, options.seconds)) as running:
            _check(running)
            # Each token has its first request here.
            everybody = range(1, USERS + LARGE_USERS + 1)
            paths = (f"/api/{data.user_id(each)}/tasks?limit=1" for each in everybody)
            _in_turn(running, [running.sign(SIGNED_IN, Request("GET", path)) for path in paths])
            # The difference is so small that many short rounds tell it better than a few long ones.
            measured = running.measure_all(OPERATIONS, 2 * options.rounds, options.seconds / 2)
            number = QUICK_TOKENS if options.quick else TOKENS
            first = [_first_requests(running, issuer, number, seed) for seed in range(options.rounds)]
    return {"operations": measured, "round_trips": trips, "first": first}


def table(result: dict[str, Any]) -> str:
    rows = []
    for operation in OPERATIONS:
        cells = result["operations"][operation.name]
        costs = [f"{cells[name]['server_cpu']:.3f}" for name in (ALONE, SIGNED_IN)]
        trips = f"{result['round_trips'][operation.name]:.3g}"
        rows.append([operation.title, *costs, f"{_ratio(cells):.2f}", trips])
    rows.append(["**geometric mean**", "", "", f"**{_mean(result):.3f}**", ""])
    header = ["Server CPU ms", "without sign-in", "signed in", "ratio", "round trips, signed in"]
    first = [
        [title, *(f"{median(each[name][figure] for each in result['first']):.3f}" for figure in ("p50", "server_cpu"))]
        for name, title in (("first", "first"), ("later", "later"))
    ]
    more = ["**more**", *(f"**{_more(result, figure):.3f}**" for figure in ("p50", "server_cpu"))]
    return "\n\n".join((
        markdown(header, rows), markdown(["A token's request, get one", "p50 ms", "server CPU ms"], [*first, more])
    ))  # fmt: skip


def goals(result: dict[str, Any]) -> list[Goal]:
    mean, trips = _mean(result), set(result["round_trips"].values())
    latency, cpu = _more(result, "p50"), _more(result, "server_cpu")
    return [
        Goal(
            f"server CPU, signed in over without sign-in, geometric mean: {CPU_GOAL} at most",
            f"{mean:.3f}",
            mean <= CPU_GOAL,
        ),
        Goal(
            f"the first request of a token: {FIRST_GOAL} ms more at most",
            f"{latency:.3f} ms, and {cpu:.3f} ms of CPU",
            max(latency, cpu) <= FIRST_GOAL,
        ),
        Goal(
            "round trips of each operation, signed in: 1",
            " to ".join(f"{each:g}" for each in sorted(trips)),
            trips == {1.0},
        ),
    ]


def _ratio(cells: Mapping[str, Any]) -> float:
    """Returns the median of the rounds' ratios, as what disturbs a round disturbs both of its measurements."""
    rounds = zip(*(cells[name]["rounds"] for name in (SIGNED_IN, ALONE)), strict=True)
    return median(float(signed_in["server_cpu"] / alone["server_cpu"]) for signed_in, alone in rounds)


def _mean(result: dict[str, Any]) -> float:
    return geometric_mean(_ratio(cells) for cells in result["operations"].values())


def _more(result: dict[str, Any], figure: str) -> float:
    return median(float(each["first"][figure] - each["later"][figure]) for each in result["first"])


@contextmanager
def _running(database: Postgres, port: int, issuer: Issuer, number: int, warm_up: float) -> Iterator[Environment]:
    """Starts this project twice. `trusted` does as little for a request as `open`, which production refuses."""
    chosen = [
        _contender(ALONE, {"AUTH_MODE": "trusted"}),
        replace(_contender(SIGNED_IN, issuer.settings), probe="/api/v1/live"),
    ]

    @cache
    def token(user: str) -> str:
        return issuer.token(user, exp=int(time.time()) + LIFETIME)

    def sign(name: str, request: Request) -> Request:
        return replace(request, token=token(_user(request))) if name == SIGNED_IN else request

    with environment.running(database, port, number, warm_up, chosen) as running:
        yield replace(running, sign=sign)


def _contender(name: str, settings: Mapping[str, str]) -> Contender:
    return replace(THIS_PROJECT, name=name, environment={**THIS_PROJECT.environment, **settings})


def _user(request: Request) -> str:
    return request.path.split("/")[2]


def _check(running: Environment) -> None:
    """Raises `sameness.Differs` unless both give the same answers. The mix consists of the other operations."""
    for operation in OPERATIONS:
        if operation is not MIX:
            # Where nobody signs in, a token does not matter.
            requests = [running.sign(SIGNED_IN, request) for request in operation.requests(CHECKED, seed=7)]
            sameness.check(running.servers, operation, requests, partial(running.reset, requests))


def _first_requests(running: Environment, issuer: Issuer, number: int, seed: int) -> dict[str, dict[str, float]]:
    """Sends requests with a new token each, one after the other, and then the same requests again."""
    requests = GET.requests(number, seed)
    # The tasks are in PostgreSQL's memory before.
    _in_turn(running, [running.sign(SIGNED_IN, each) for each in requests])
    new = [replace(each, token=issuer.token(_user(each))) for each in requests]
    return {name: _in_turn(running, new) for name in ("first", "later")}


def _in_turn(running: Environment, requests: Sequence[Request]) -> dict[str, float]:
    server = running.servers[SIGNED_IN]
    encoded = [each.encode(server.port) for each in requests]
    before = cpu_seconds(server.process.pid)
    answers = clients.run(Workload(server.port, encoded, clients=1, number=len(encoded)))
    cost = cpu_seconds(server.process.pid) - before
    if answers.statuses != {200: len(requests)}:
        raise RuntimeError(f"{answers.statuses}\n{server.log_end}")
    return {"p50": median(answers.milliseconds), "server_cpu": 1000 * cost / len(requests)}
