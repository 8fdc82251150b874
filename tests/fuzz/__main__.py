"""The long run: rounds against gunicorn and PostgreSQL of its own until there are enough requests, or a failure.

There are two kinds of rounds. In one, Schemathesis sends what the contract allows and forbids, and holds every answer
against the contract (`tests/fuzz/rounds.py`). In the other, which is much faster, bytes that may no longer be HTTP are
sent on many connections (`tests/fuzz/storm.py`).

SEED, CASES and MINUTES in the environment say where to begin, how many there must be, and how long that may take.
GROUP with SEED repeats what a storm sent at once on one connection, or with `all` a round of it.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import get_context
from random import SystemRandom

from persistence.postgres.dsn import Dsn
from tests.fuzz.report import Report
from tests.fuzz.rounds import fuzz
from tests.fuzz.site import harm, site
from tests.fuzz.storm import storm
from tests.support.servers import WebServer

PROCESSES = 2
EXAMPLES = 300
"""Of each operation in a round of Schemathesis."""
BY_CONTRACT = 20_000
"""How many requests are left to Schemathesis, which makes a few hundred in a second."""
STORM = 20_000
"""Requests in a round of a storm."""

type Start = Callable[[int], Future[Report]]
"""Starts the round with this seed."""


def attack(start: Start, advice: str, seed: int, cases: int, deadline: float) -> Report:
    """Every round has a seed of its own, so that one that fails can be repeated alone, as `advice` says."""
    total = Report()
    seeds = count(seed)
    running: dict[Future[Report], int] = {}

    def add(report: Report, number: int) -> None:
        total.answers.update(report.answers)
        total.failures += [f"SEED={number} {advice}{text}" for text in report.failures]
        say(f"{total.answers.total()} cases; {len(report.failures)} failures with SEED={number}")

    while not total.failures and (missing := cases - total.answers.total()) > 0:
        if time.monotonic() > deadline:
            total.failures.append(f"There was not time enough: {missing} cases are missing")
            break
        while len(running) < PROCESSES:
            number = next(seeds)
            running[start(number)] = number
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            add(future.result(), running.pop(future))
    for future, number in running.items():
        add(future.result(), number)
    return total


def attack_both(web: WebServer, dsn: Dsn, seed: int, cases: int, deadline: float) -> list[Report]:
    by_contract = min(cases, BY_CONTRACT)
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:

        def contract(number: int) -> Future[Report]:
            return pool.submit(fuzz, web.url, dsn, number, EXAMPLES)

        def raw(number: int) -> Future[Report]:
            return pool.submit(storm, web.port, dsn, number, STORM)

        first = attack(contract, "CASES=1 make fuzz\n", seed, by_contract, deadline)
        if first.failures:
            return [first]
        return [first, attack(raw, "", seed, cases - first.answers.total(), deadline)]


def by_status(report: Report) -> list[str]:
    """A line for each status, and how many answers of it each kind of request had."""
    counts = Counter[tuple[int, str]]()
    for (label, status), number in report.answers.items():
        counts[status, label.split()[0]] += number
    kinds = sorted({kind for _, kind in counts})
    lines = [f"{'status':>8}" + "".join(f"{kind:>10}" for kind in kinds)]
    lines += [
        f"{status or 'closed':>8}" + "".join(f"{counts[status, kind]:>10}" for kind in kinds)
        for status in sorted({status for status, _ in counts})
    ]
    return lines


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - this is a command


def main() -> int:
    seed = int(os.environ.get("SEED") or SystemRandom().randrange(2**32))
    cases = int(os.environ.get("CASES") or 100_000)
    deadline = time.monotonic() + 60 * float(os.environ.get("MINUTES") or 40)
    group = os.environ.get("GROUP")
    say(f"SEED={seed}")
    with site() as (web, dsn):
        if group:
            reports = [storm(web.port, dsn, seed, STORM, None if group == "all" else int(group))]
        else:
            reports = attack_both(web, dsn, seed, cases, deadline)
        failures = [text for report in reports for text in report.failures] + harm(web, dsn)
    for report in reports:
        say(*by_status(report))
    say(*(f"\n{text}" for text in failures))
    total = sum(report.answers.total() for report in reports)
    say(f"{total} cases; {len(failures)} failures; SEED={seed}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
