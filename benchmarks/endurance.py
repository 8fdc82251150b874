"""Whether a worker's memory stays as it is over a million requests of all sorts."""

from typing import Any

from benchmarks import clients, product, variety
from benchmarks.client import Answers, Crowd
from benchmarks.load import LoadFailed
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import Server
from benchmarks.tables import Goal, markdown

MARKS = (10_000, 100_000, 250_000, 500_000, 1_000_000)
QUICK_MARKS = (3_000, 30_000)
"""After so many requests memory is looked at; the first is what the others are compared with."""
GROWTH = 1.05
_STATUSES = {200, 201, 400, 404}


def run(options: Options, database: Postgres) -> dict[str, Any]:
    looks: list[dict[str, float]] = []
    sent, seconds = 0, 0.0
    with product.serving(database.port) as server:
        requests = product.encoded(server, variety.requests())
        for mark in QUICK_MARKS if options.quick else MARKS:
            answers = clients.run(Crowd(server.port, requests, options.clients, number=mark - sent, first=sent))
            _check(answers, mark - sent, server)
            sent, seconds = mark, seconds + answers.seconds
            looks.append({"requests": mark} | _memory(server))
    return {"looks": looks, "rate": sent / seconds}


def table(result: dict[str, Any]) -> str:
    first = result["looks"][0]
    rows = [
        [f"{look['requests']:,}"] + [text for kind in ("uss", "pss") for text in _cells(look[kind], first[kind])]
        for look in result["looks"]
    ]
    header = [f"Requests, at {result['rate']:,.0f}/s", "USS of the worker, MB", "change", "PSS, MB", "change"]
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    first, last = result["looks"][0], result["looks"][-1]
    text = f"worker memory after {last['requests']:,} requests over that after {first['requests']:,}: {GROWTH} at most"
    ratios = [last[kind] / first[kind] for kind in ("uss", "pss")]
    return [Goal(text, " and ".join(f"{ratio:.3f}" for ratio in ratios), max(ratios) <= GROWTH)]


def _cells(size: float, first: float) -> tuple[str, str]:
    return f"{size / 2**20:.1f}", f"{(size / first - 1) * 100:+.1f} %"


def _memory(server: Server) -> dict[str, float]:
    """Of the workers: what is theirs alone (USS), and with their part of what is shared (PSS, where it is known)."""
    found = [worker.memory_full_info() for worker in product.workers_of(server)]
    return {"uss": sum(each.uss for each in found), "pss": sum(getattr(each, "pss", each.rss) for each in found)}


def _check(answers: Answers, number: int, server: Server) -> None:
    if set(answers.statuses) - _STATUSES or len(answers.milliseconds) != number:
        raise LoadFailed(f"of {number} requests: {answers.statuses}, {answers.broken} broken\n{server.log_end}")
