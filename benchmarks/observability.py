"""The study of what the log, metrics and limits of users cost: a server that has them all beside one that has none."""

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import environment, operations
from benchmarks.contenders import THIS_PROJECT, Contender
from benchmarks.delay import Proxy
from benchmarks.environment import Environment
from benchmarks.operations import CREATE, GET, LIST, MIX, PATCH
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.tables import Goal, geometric_mean, markdown
from tests.support.processes import free_port

WITHOUT, WITH = "without", "with"
MEASURED = (GET, LIST, CREATE, PATCH, MIX)
WARM_UP = 0.5
SCRAPE_INTERVAL = 5.0
"""Seconds between two questions for metrics. Prometheus asks every 15 seconds or every minute."""
CPU_GOAL = 1.08


def run(options: Options) -> dict[str, Any]:
    with operations.database() as database:
        with Proxy(database.port) as proxy, _running(database, proxy.port, 1, 0) as running:
            trips = {each.name: running.round_trips(WITH, each, proxy) for each in MEASURED}
        with _running(database, database.port, options.clients, min(WARM_UP, options.seconds)) as running:
            # The difference is so small that many short rounds tell it better than a few long ones.
            measured = running.measure_all(MEASURED, 4 * options.rounds, options.seconds / 4)
    return {"operations": measured, "round_trips": trips}


def table(result: dict[str, Any]) -> str:
    rows = []
    for operation in MEASURED:
        cells = result["operations"][operation.name]
        figures = [f"{cells[name][figure]:.3f}" for figure in ("server_cpu", "p50", "p99") for name in (WITHOUT, WITH)]
        rows.append([operation.title, *figures, f"{_ratio(cells):.2f}"])
    rows.append(["**geometric mean**", *[""] * 6, f"**{_mean(result):.3f}**"])
    pairs = [f"{figure} {name}" for figure in ("CPU", "p50", "p99") for name in (WITHOUT, WITH)]
    return markdown(["ms of a request", *pairs, "ratio of CPU"], rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    mean, trips = _mean(result), set(result["round_trips"].values())
    return [
        Goal(
            f"server CPU with log, metrics and limits over that without, geometric mean: {CPU_GOAL} at most",
            f"{mean:.3f}",
            mean <= CPU_GOAL,
        ),
        Goal(
            "round trips of each operation with all of them: 1",
            " to ".join(f"{each:g}" for each in sorted(trips)),
            trips == {1.0},
        ),
    ]


def _ratio(cells: Mapping[str, Any]) -> float:
    """Returns the median of the rounds' ratios, as what disturbs a round disturbs both of its measurements."""
    rounds = zip(*(cells[name]["rounds"] for name in (WITH, WITHOUT)), strict=True)
    return median(float(one["server_cpu"] / other["server_cpu"]) for one, other in rounds)


def _mean(result: dict[str, Any]) -> float:
    return geometric_mean(_ratio(cells) for cells in result["operations"].values())


@contextmanager
def _running(database: Postgres, port: int, number: int, warm_up: float) -> Iterator[Environment]:
    metrics_port = free_port()
    everything = {
        "LOG_LEVEL": "INFO", "METRICS_BIND": f"127.0.0.1:{metrics_port}", "USER_REQUESTS_PER_MINUTE": "1000000",
    }  # fmt: skip
    chosen = [_contender(WITHOUT, {"LOG_LEVEL": "WARNING"}), _contender(WITH, everything)]
    with environment.running(database, port, number, warm_up, chosen) as running, _scraping(metrics_port):
        yield running


def _contender(name: str, settings: Mapping[str, str]) -> Contender:
    return replace(THIS_PROJECT, name=name, environment={**THIS_PROJECT.environment, **settings})


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    """Asks for the metrics now and then, as Prometheus does."""
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.wait(SCRAPE_INTERVAL):
            with suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/metrics")
                connection.getresponse().read()
                connection.close()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
