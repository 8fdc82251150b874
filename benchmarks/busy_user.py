"""The latency of other users' requests while many clients of one user write, with turns and without."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import clients, contenders, data, postgres, this_project
from benchmarks.client import Answers, Workload
from benchmarks.concurrency import percentile
from benchmarks.contenders import PRODUCTION_PYTHON, THIS_PROJECT
from benchmarks.operations import CREATE, GET, LIST, PATCH, TASKS, USERS, Request
from benchmarks.options import Options
from benchmarks.processes import Server
from benchmarks.tables import Goal, markdown
from benchmarks.wrk import LoadFailed

WRITERS = 20
OTHERS, PAUSE = 8, 0.03
"""Clients of other users, and the mean seconds that each pauses."""
BUSY = USERS + 1
SECONDS, QUICK_SECONDS = 5.0, 2.0
HEAD_START = 0.5
GOAL = 1.5
WITH, WITHOUT = "turns", "no turns"
_PATTERN = (LIST, GET, PATCH, CREATE)

type Send = Callable[[Workload], Future[Answers]]


def run(options: Options) -> dict[str, Any]:
    seconds = QUICK_SECONDS if options.quick else SECONDS
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {"alone": [], "beside": []} for name in (WITH, WITHOUT)
    }
    # Here writes wait for the disk, as they do in production: that is what holds the lock of the user's row.
    with postgres.temporary("synchronous_commit=on") as database, clients.in_another_process() as send:
        data.fill(database.dsn, USERS + 1, TASKS)
        with _servers(database.port) as servers:
            for number in range(options.rounds):
                for name in (WITH, WITHOUT)[:: 1 if number % 2 else -1]:
                    for load in ("alone", "beside"):
                        rounds[name][load].append(_measure(servers[name], send, seconds, is_busy=load == "beside"))
    return {
        name: {load: _medians(taken) | {"rounds": taken} for load, taken in loads.items()}
        for name, loads in rounds.items()
    }


def table(result: dict[str, Any]) -> str:
    rows = []
    for name, loads in result.items():
        for load, figures in loads.items():
            busy = f"{WRITERS} that write" if load == "beside" else "none"
            over = f"{_over_alone(loads):.2f}" if load == "beside" else ""
            row = [name, busy, *(f"{figures[key]:,.0f}" for key in ("writes", "refused"))]
            rows.append([*row, *(f"{figures[key]:.1f}" for key in ("p50", "p99", "slowest")), over])
    header = [
        "Server", "Clients of the busy user", "their writes/s", "refused", "others' p50 ms", "p99 ms", "most ms",
        "p99 over alone",
    ]  # fmt: skip
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    ratio = _over_alone(result[WITH])
    text = f"p99 of others beside {WRITERS} clients of one user that write, over alone: {GOAL} at most"
    return [Goal(text, f"{ratio:.2f}", ratio <= GOAL)]


def _over_alone(loads: dict[str, Any]) -> float:
    """Returns the median of the rounds' ratios, as what disturbs a round disturbs both of its measurements."""
    pairs = zip(loads["beside"]["rounds"], loads["alone"]["rounds"], strict=True)
    return median(float(beside["p99"] / alone["p99"]) for beside, alone in pairs)


@contextmanager
def _servers(port: int) -> Iterator[dict[str, Server]]:
    without = [PRODUCTION_PYTHON, "-m", "gunicorn", "-c", "python:benchmarks.without_turns", "--workers", "1"]
    chosen = [
        replace(THIS_PROJECT, name=WITH),
        replace(THIS_PROJECT, name=WITHOUT, command=lambda port: [*without, "--bind", f"127.0.0.1:{port}"]),
    ]
    with contenders.serving(port, chosen) as servers:
        yield servers


def _measure(server: Server, send: Send, seconds: float, *, is_busy: bool) -> dict[str, float]:
    others = [request for seed in range(500) for each in _PATTERN for request in each.requests(1, seed)]
    load = Workload(server.port, this_project.encoded(server, others), OTHERS, seconds, pause=PAUSE)
    if not is_busy:
        return _describe(clients.run(load)) | {"writes": 0.0, "refused": 0.0}
    writes = [
        Request("PATCH", f"/api/{data.user_id(BUSY)}/tasks/{data.task_id(BUSY, number)}", {"title": f"Title {number}"})
        for number in range(1, TASKS + 1)
    ]
    writing = send(Workload(server.port, this_project.encoded(server, writes), WRITERS, seconds + 2 * HEAD_START))
    clients.run(replace(load, seconds=HEAD_START))
    seen = _describe(clients.run(load))
    answers = writing.result()
    refused = sum(number for status, number in answers.statuses.items() if status == 503)
    if answers.refused or answers.broken or set(answers.statuses) - {200, 503}:
        raise LoadFailed(f"writers had {answers.statuses}, {answers.refused} refused, {answers.broken} broken")
    return seen | {"writes": answers.statuses[200] / answers.seconds, "refused": float(refused)}


def _describe(answers: Answers) -> dict[str, float]:
    if answers.refused or answers.broken or set(answers.statuses) - {200, 201}:
        raise LoadFailed(f"others had {answers.statuses}, {answers.refused} refused, {answers.broken} broken")
    taken = answers.milliseconds.tolist()
    return {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99), "slowest": max(taken)}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}
