"""The long run: rounds against gunicorn and PostgreSQL of its own until there are enough requests, or a failure.

There are two kinds of rounds. In one, Schemathesis sends what the contract allows and forbids, and checks every answer
against the contract (`tests/fuzz/rounds.py`). In the other, which is much faster, bytes that may no longer be HTTP are
sent on many connections (`tests/fuzz/storm.py`).

SEED, CASES and MINUTES in the environment set the first seed, the number of requests, and the time limit. GROUP with
SEED repeats what a storm sent at once on one connection, or with `all` a round of it.
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
from tests.fuzz.answers import Report
from tests.fuzz.rounds import fuzz
from tests.fuzz.site import harm, site
from tests.fuzz.storm import storm
from tests.support.servers import WebServer

PROCESSES = 2
EXAMPLES = 300
"""Requests to each operation in a round of Schemathesis."""
BY_CONTRACT = 20_000
"""Requests that are left to Schemathesis, which makes a few hundred in a second."""
STORM = 20_000
"""Requests in a round of a storm."""


def attack(start: Callable[[int], Future[Report]], advice: str, seed: int, cases: int, deadline: float) -> Report:
    """Every round has a seed of its own, so that one that fails can be repeated alone, as `advice` says."""
    total, seeds = Report(), count(seed)
    running: dict[Future[Report], int] = {}

    def add(future: Future[Report], number: int) -> None:
        report = future.result()
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
            add(future, running.pop(future))
    for future, number in running.items():
        add(future, number)
    return total


def attack_both(web: WebServer, dsn: Dsn, seed: int, cases: int, deadline: float) -> list[Report]:
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:

        def by_contract(number: int) -> Future[Report]:
            return pool.submit(fuzz, web.url, dsn, number, EXAMPLES)

        def raw(number: int) -> Future[Report]:
            return pool.submit(storm, web.port, dsn, number, STORM)

        first = attack(by_contract, "CASES=1 make fuzz\n", seed, min(cases, BY_CONTRACT), deadline)
        if first.failures:
            return [first]
        return [first, attack(raw, "", seed, cases - first.answers.total(), deadline)]


def by_status(report: Report) -> list[str]:
    counts = Counter[str]()
    for (label, status), number in report.answers.items():
        counts[f"{status or 'closed':>6} {label.split()[0]}"] += number
    return [f"{name:<14}{counts[name]:>8}" for name in sorted(counts)]


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
    total = sum(report.answers.total() for report in reports)
    say(*(line for report in reports for line in by_status(report)), *(f"\n{text}" for text in failures))
    say(f"{total} cases; {len(failures)} failures; SEED={seed}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
