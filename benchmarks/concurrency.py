"""A thousand concurrent clients: all of them have to be served, and equally well."""

from math import ceil
from typing import Any

from benchmarks import clients, this_project
from benchmarks.client import Answers, Workload
from benchmarks.operations import CREATE, GET, LIST, PATCH
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.tables import Goal, markdown
from benchmarks.wrk import LoadFailed

CLIENTS = 1000
SECONDS, QUICK_SECONDS = 20.0, 4.0
WORKERS = (1, 2)
SLOWEST = 5000.0
FAIR = 0.9
"""Jain's index of the clients' numbers of answers: 1 when all are equal, 1/n when one client had all answers."""
_PATTERN = (LIST, LIST, LIST, GET, LIST, CREATE, LIST, GET, LIST, PATCH)


def run(options: Options, database: Postgres) -> dict[str, Any]:
    seconds = QUICK_SECONDS if options.quick else SECONDS
    requests = [_PATTERN[number % len(_PATTERN)].requests(1, number)[0] for number in range(2000)]
    found = []
    for workers in WORKERS:
        with this_project.serving(database.port, workers) as server:
            answers = clients.run(Workload(server.port, this_project.encoded(server, requests), CLIENTS, seconds))
        found.append({"workers": workers} | _describe(answers))
    return {"seconds": seconds, "loads": found}


def table(result: dict[str, Any]) -> str:
    header = [
        f"{CLIENTS:,} clients for {result['seconds']:g} s", "requests/s", "refused or failed", "p50 ms", "p99 ms",
        "most ms", "requests of a client, least", "median", "most", "Jain's index",
    ]  # fmt: skip
    rows = [
        [
            f"{each['workers']} worker{'s' * (each['workers'] > 1)}", f"{each['rate']:,.0f}", str(each["failed"]),
            f"{each['p50']:,.0f}", f"{each['p99']:,.0f}", f"{each['slowest']:,.0f}",
            str(each["least"]), str(each["median"]), str(each["most"]), f"{each['jain']:.3f}",
        ]
        for each in result["loads"]
    ]  # fmt: skip
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    failed = sum(each["failed"] for each in result["loads"])
    slowest = max(each["slowest"] for each in result["loads"])
    jain = min(each["jain"] for each in result["loads"])
    return [
        Goal(f"{CLIENTS:,} clients: none refused", str(failed), failed == 0),
        Goal(f"{CLIENTS:,} clients: no answer after more than 5 s", f"{slowest / 1000:.2f} s", slowest <= SLOWEST),
        Goal(f"{CLIENTS:,} clients: fair, Jain's index at least {FAIR}", f"{jain:.3f}", jain >= FAIR),
    ]


def percentile(values: list[float], share: float) -> float:
    """Returns the least value that this share of the values does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _describe(answers: Answers) -> dict[str, Any]:
    errors = sum(number for status, number in answers.statuses.items() if status >= 400)
    taken, each = answers.milliseconds.tolist(), sorted(answers.each)
    if not taken:
        raise LoadFailed(f"of {CLIENTS} clients {answers.refused} were refused, and none had an answer")
    return {
        "rate": len(taken) / answers.seconds,
        "failed": answers.refused + answers.broken + errors,
        "p50": percentile(taken, 0.5),
        "p99": percentile(taken, 0.99),
        "slowest": max(taken),
        "least": each[0],
        "median": each[len(each) // 2],
        "most": each[-1],
        "jain": sum(each) ** 2 / (len(each) * sum(n * n for n in each)),
    }
