"""The memory of a worker over a million requests of all kinds."""

from typing import Any

from benchmarks import clients, request_mix, this_project
from benchmarks.client import Answers, Workload
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import Server
from benchmarks.tables import Goal, markdown
from benchmarks.wrk import LoadFailed

SAMPLED = (10_000, 100_000, 250_000, 500_000, 1_000_000)
QUICK_SAMPLED = (3_000, 30_000)
"""Numbers of requests after which memory is measured; the first measurement is the baseline."""
GROWTH = 1.05
_STATUSES = {200, 201, 400, 404}


def run(options: Options, database: Postgres) -> dict[str, Any]:
    samples: list[dict[str, float]] = []
    sent, seconds = 0, 0.0
    with this_project.serving(database.port) as server:
        requests = this_project.encoded(server, request_mix.requests())
        for number in QUICK_SAMPLED if options.quick else SAMPLED:
            answers = clients.run(Workload(server.port, requests, options.clients, number=number - sent, first=sent))
            _check(answers, number - sent, server)
            sent, seconds = number, seconds + answers.seconds
            samples.append({"requests": number} | _memory(server))
    return {"samples": samples, "rate": sent / seconds}


def table(result: dict[str, Any]) -> str:
    first = result["samples"][0]
    rows = [
        [f"{sample['requests']:,}"] + [text for kind in ("uss", "pss") for text in _cells(sample[kind], first[kind])]
        for sample in result["samples"]
    ]
    header = [f"Requests, at {result['rate']:,.0f}/s", "USS of the worker, MB", "change", "PSS, MB", "change"]
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    first, last = result["samples"][0], result["samples"][-1]
    text = f"worker memory after {last['requests']:,} requests over that after {first['requests']:,}: {GROWTH} at most"
    ratios = [last[kind] / first[kind] for kind in ("uss", "pss")]
    return [Goal(text, " and ".join(f"{ratio:.3f}" for ratio in ratios), max(ratios) <= GROWTH)]


def _cells(size: float, first: float) -> tuple[str, str]:
    return f"{size / 2**20:.1f}", f"{(size / first - 1) * 100:+.1f} %"


def _memory(server: Server) -> dict[str, float]:
    """Sums the workers' private memory (USS), and their memory with a share of shared pages (PSS, where known)."""
    found = [worker.memory_full_info() for worker in this_project.workers_of(server)]
    return {"uss": sum(each.uss for each in found), "pss": sum(getattr(each, "pss", each.rss) for each in found)}


def _check(answers: Answers, number: int, server: Server) -> None:
    if set(answers.statuses) - _STATUSES or len(answers.milliseconds) != number:
        raise LoadFailed(f"of {number} requests: {answers.statuses}, {answers.broken} broken\n{server.log_end}")
