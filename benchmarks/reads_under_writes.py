"""The latency of reads and of the health check while many clients write, compared with their latency alone."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from statistics import median
from typing import Any

import psycopg

from benchmarks import clients, data, probe, state, this_project
from benchmarks.client import Answers, Workload
from benchmarks.concurrency import percentile
from benchmarks.operations import CREATE, PATCH, USERS
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import Server, cpu_seconds
from benchmarks.tables import Goal, markdown
from benchmarks.wrk import LoadFailed

WRITERS = 64
BUSY = 0.6
"""The part of one core that the server needs for writers that pause."""
WORKERS = (1, 2)
LEAST_SECONDS = 1.5
HEAD_START = 0.3
GOAL = 3.0
PATHS = {"health": "/api/v1/health", "get": f"/api/{data.user_id(1)}/tasks/{data.task_id(1, 1)}"}
TITLES = {"alone": "none", "paced": f"{WRITERS} that pause", "saturated": f"{WRITERS} that do not pause"}

type Send = Callable[[Workload], Future[Answers]]


def run(options: Options, database: Postgres) -> dict[str, Any]:
    seconds = max(options.seconds, LEAST_SECONDS)
    found: dict[str, Any] = {}
    with psycopg.connect(database.dsn.conninfo, autocommit=True) as connection, clients.in_another_process() as send:
        state.settle(connection)
        for workers in WORKERS:
            with this_project.serving(database.port, workers) as server:
                # The cost of a write without pauses decides how long the pauses have to be.
                pause = WRITERS * _measure(server, send, 0.0, 1.0)["cpu_each"] / BUSY
                rounds: dict[str, list[dict[str, float]]] = {name: [] for name in TITLES}
                for _ in range(options.rounds):
                    for name, its_pause in (("alone", None), ("paced", pause), ("saturated", 0.0)):
                        state.prepare(connection, 0, USERS)
                        rounds[name].append(_measure(server, send, its_pause, seconds))
            found[str(workers)] = {name: _medians(taken) | {"rounds": taken} for name, taken in rounds.items()}
    return {"seconds": seconds, "rounds": options.rounds, "workers": found}


def table(result: dict[str, Any]) -> str:
    header = [
        "Workers", "Writers", "writes/s", "server CPU, cores", "its wait for a core, s/s",
        "health p50 ms", "p99 ms", "over alone", "get one p50 ms", "p99 ms", "over alone",
    ]  # fmt: skip
    rows = []
    for workers, measured in result["workers"].items():
        for name, title in TITLES.items():
            figures = measured[name]
            row = [workers, title, f"{figures['writes']:,.0f}", f"{figures['cpu']:.2f}", f"{figures['waited']:.2f}"]
            for path in PATHS:
                ratio = _over_alone(measured, name, path)
                row += [f"{figures[f'{path}_p50']:.2f}", f"{figures[f'{path}_p99']:.2f}", f"{ratio:.1f}"]
            rows.append(row)
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    found = []
    for workers, measured in result["workers"].items():
        ratios = [_over_alone(measured, "paced", path) for path in PATHS]
        text = f"p99 of health and of reads beside {WRITERS} writers over alone, {workers} worker(s): {GOAL:g} at most"
        found.append(Goal(text, " and ".join(f"{ratio:.1f}" for ratio in ratios), max(ratios) <= GOAL))
    return found


def _over_alone(measured: dict[str, Any], name: str, path: str) -> float:
    """Returns the ratio of the 99th percentiles, as the median over the rounds.

    Each round is divided by its own measurement alone: another program that disturbs some of those must not hide what
    the load does.
    """
    pairs = zip(measured[name]["rounds"], measured["alone"]["rounds"], strict=True)
    ratios: list[float] = [beside[f"{path}_p99"] / alone[f"{path}_p99"] for beside, alone in pairs]
    return median(ratios)


def _measure(server: Server, send: Send, pause: float | None, seconds: float) -> dict[str, float]:
    """Measures beside writers with this mean pause, or alone when it is None."""
    if pause is None:
        return {"writes": 0.0, "cpu": 0.0, "cpu_each": 0.0} | _probe(server, seconds)
    before = cpu_seconds(server.process.pid)
    requests = [one for number in range(1000) for each in (CREATE, PATCH) for one in each.requests(1, number)]
    encoded = this_project.encoded(server, requests)
    started = time.perf_counter()
    writing = send(Workload(server.port, encoded, WRITERS, HEAD_START + seconds, pause=pause))
    time.sleep(HEAD_START)
    seen = _probe(server, seconds)
    answers = writing.result()
    took, cpu = time.perf_counter() - started, cpu_seconds(server.process.pid) - before
    written = len(answers.milliseconds)
    if answers.refused or answers.broken or set(answers.statuses) - {200, 201}:
        raise LoadFailed(f"writers had {answers.statuses}, {answers.refused} refused, {answers.broken} broken")
    return {"writes": written / took, "cpu": cpu / took, "cpu_each": cpu / written} | seen


def _probe(server: Server, seconds: float) -> dict[str, float]:
    before = this_project.waited_for_a_core(server)
    taken = probe.milliseconds(server, PATHS, seconds)
    waited = (this_project.waited_for_a_core(server) - before) / seconds
    shares = {"p50": 0.5, "p99": 0.99}
    seen = {f"{path}_{name}": percentile(taken[path], share) for path in PATHS for name, share in shares.items()}
    return seen | {"waited": waited}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}
