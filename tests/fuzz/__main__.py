"""The long run: rounds against gunicorn and PostgreSQL of its own until there are enough requests, or a failure.

SEED, CASES and MINUTES in the environment say where to begin, how many there must be, and how long that may take.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory

from persistence import embedded, migrations
from persistence.dsn import Dsn
from tests.fuzz.rounds import Report, fuzz
from tests.servers import WebServer, url_of

PROCESSES = 2
EXAMPLES = 300


@contextmanager
def site() -> Iterator[tuple[WebServer, Dsn]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with embedded.running(folder / "postgres", ["fsync=off"]) as dsn:
            migrations.upgrade(dsn)
            settings = {"ENVIRONMENT": "production", "DATABASE_URL": url_of(dsn), "WEB_CONCURRENCY": str(PROCESSES)}
            with WebServer(folder, settings) as web:
                yield web, dsn


def attack(web: WebServer, dsn: Dsn, seed: int, cases: int, deadline: float) -> Report:
    """Every round has a seed of its own, so that one that fails can be repeated alone."""
    total = Report()
    seeds = count(seed)
    running: dict[Future[Report], int] = {}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        while not total.failures and (missing := cases - total.answers.total()) > 0:
            if time.monotonic() > deadline:
                total.failures.append(f"There was not time enough: {missing} cases are missing")
                break
            while len(running) < PROCESSES:
                number = next(seeds)
                running[pool.submit(fuzz, web.url, dsn, number, EXAMPLES)] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _add(total, future.result(), running.pop(future))
        for future, number in running.items():
            _add(total, future.result(), number)
    return total


def _add(total: Report, report: Report, seed: int) -> None:
    total.answers += report.answers
    total.failures += [f"SEED={seed} CASES=1 make fuzz\n{text}" for text in report.failures]
    say(f"{total.answers.total()} cases; {len(report.failures)} failures with SEED={seed}")


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - this is a command


def main() -> int:
    seed = int(os.environ.get("SEED") or SystemRandom().randrange(2**32))
    cases = int(os.environ.get("CASES") or 20_000)
    deadline = time.monotonic() + 60 * float(os.environ.get("MINUTES") or 40)
    say(f"SEED={seed}")
    with site() as (web, dsn):
        report = attack(web, dsn, seed, cases, deadline)
        if "Traceback" in web.log:
            report.failures.append(f"The server logged a failure:\n{web.log}")
    say(*(f"{number:8} {status} {operation}" for (operation, status), number in sorted(report.answers.items())))
    say(*(f"\n{text}" for text in report.failures))
    say(f"{report.answers.total()} cases; {len(report.failures)} failures; SEED={seed}")
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
