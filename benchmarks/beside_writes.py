"""How long reads and the health check take beside many clients who write, against what they take alone."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from statistics import median
from typing import Any

import psycopg

from benchmarks import clients, data, probe, product, state
from benchmarks.client import Answers, Crowd
from benchmarks.crowd import percentile
from benchmarks.load import LoadFailed
from benchmarks.operations import CREATE, PATCH, USERS
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import Server, cpu_seconds
from benchmarks.tables import Goal, markdown

WRITERS = 64
BUSY = 0.6
"""The part of one core that the server needs for the writers who pause."""
WORKERS = (1, 2)
LEAST_SECONDS = 1.5
HEAD_START = 0.3
GOAL = 3.0
PATHS = {"health": "/api/v1/health", "get": f"/api/{data.user_id(1)}/tasks/{data.task_id(1, 1)}"}
TITLES = {"alone": "alone", "paced": f"beside {WRITERS} writers who pause", "saturated": f"beside {WRITERS} who do not"}

type Send = Callable[[Crowd], Future[Answers]]


def run(options: Options, database: Postgres) -> dict[str, Any]:
    seconds = max(options.seconds, LEAST_SECONDS)
    found: dict[str, Any] = {}
    with psycopg.connect(database.dsn.conninfo, autocommit=True) as connection, clients.elsewhere() as send:
        state.settle(connection)
        for workers in WORKERS:
            with product.serving(database.port, workers) as server:
                # Without a pause first: what a write costs says how long a pause must be.
                pause = WRITERS * _turn(server, send, 0.0, 1.0)["cpu_each"] / BUSY
                turns: dict[str, list[dict[str, float]]] = {name: [] for name in TITLES}
                for _ in range(options.rounds):
                    for name, its_pause in (("alone", None), ("paced", pause), ("saturated", 0.0)):
                        state.prepare(connection, 0, USERS)
                        turns[name].append(_turn(server, send, its_pause, seconds))
            found[str(workers)] = {name: _medians(taken) | {"turns": taken} for name, taken in turns.items()}
    return {"seconds": seconds, "rounds": options.rounds, "workers": found}


def table(result: dict[str, Any]) -> str:
    header = [
        "Workers", "The client", "writes/s", "server CPU, cores", "its wait for a core, s/s",
        "health p50 ms", "p99 ms", "against alone",
        "get one p50 ms", "p99 ms", "against alone",
    ]  # fmt: skip
    rows = []
    for workers, turns in result["workers"].items():
        for name, title in TITLES.items():
            turn = turns[name]
            row = [workers, title, f"{turn['writes']:,.0f}", f"{turn['cpu']:.2f}", f"{turn['waited']:.2f}"]
            for path in PATHS:
                ratio = _against_alone(turns, name, path)
                row += [f"{turn[f'{path}_p50']:.2f}", f"{turn[f'{path}_p99']:.2f}", f"{ratio:.1f}"]
            rows.append(row)
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    found = []
    for workers, turns in result["workers"].items():
        ratios = [_against_alone(turns, "paced", path) for path in PATHS]
        text = f"p99 of health and of reads beside {WRITERS} writers over alone, {workers} worker(s): {GOAL:g} at most"
        found.append(Goal(text, " and ".join(f"{ratio:.1f}" for ratio in ratios), max(ratios) <= GOAL))
    return found


def _against_alone(turns: dict[str, Any], name: str, path: str) -> float:
    """How many times longer the 99th percentile is, in the median of the rounds.

    Each round is held against its own turn alone: another program that disturbs some of those must not make the load
    look harmless.
    """
    pairs = zip(turns[name]["turns"], turns["alone"]["turns"], strict=True)
    ratios: list[float] = [beside[f"{path}_p99"] / alone[f"{path}_p99"] for beside, alone in pairs]
    return median(ratios)


def _turn(server: Server, send: Send, pause: float | None, seconds: float) -> dict[str, float]:
    """What the probe sees beside writers who pause so long, or beside none."""
    turn = {"writes": 0.0, "cpu": 0.0, "cpu_each": 0.0}
    if pause is None:
        return turn | _probe(server, seconds)
    before = cpu_seconds(server.process.pid)
    requests = [one for turn in range(1000) for each in (CREATE, PATCH) for one in each.requests(1, turn)]
    wanted = Crowd(server.port, product.encoded(server, requests), WRITERS, HEAD_START + seconds, pause=pause)
    started = time.perf_counter()
    writing = send(wanted)
    time.sleep(HEAD_START)
    seen = _probe(server, seconds)
    answers = writing.result()
    took, cpu = time.perf_counter() - started, cpu_seconds(server.process.pid) - before
    written = len(answers.milliseconds)
    if answers.refused or answers.broken or set(answers.statuses) - {200, 201}:
        raise LoadFailed(f"writers had {answers.statuses}, {answers.refused} refused, {answers.broken} broken")
    return {"writes": written / took, "cpu": cpu / took, "cpu_each": cpu / written} | seen


def _probe(server: Server, seconds: float) -> dict[str, float]:
    before = product.waited_for_a_core(server)
    taken = probe.milliseconds(server, PATHS, seconds)
    waited = (product.waited_for_a_core(server) - before) / seconds
    shares = {"p50": 0.5, "p99": 0.99}
    seen = {f"{path}_{name}": percentile(taken[path], share) for path in PATHS for name, share in shares.items()}
    return seen | {"waited": waited}


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(turn[name] for turn in turns) for name in turns[0]}
