"""The time from a server's start to its first answers, with a database that is up and migrated."""

import contextlib
import http.client
import time
from statistics import median
from typing import Any

from benchmarks import data, this_project
from benchmarks.options import Options
from benchmarks.postgres import Postgres
from benchmarks.processes import START_TIMEOUT, Server, cpu_seconds
from benchmarks.tables import Goal, markdown

STARTS, QUICK_STARTS = 10, 3
GOAL = 1.0
PATHS = {"live": "/api/v1/live", "list": f"/api/{data.user_id(1)}/tasks?limit=20"}


def run(options: Options, database: Postgres) -> dict[str, Any]:
    _start(database)  # From now on Python's bytecode exists, and the files are in the system's cache.
    return {"starts": [_start(database) for _ in range(QUICK_STARTS if options.quick else STARTS)]}


def table(result: dict[str, Any]) -> str:
    header = ["Seconds from exec to the first 200", "median", "least", "most"]
    titles = {"live": "of `/api/v1/live`", "list": "of a list of tasks", "cpu": "CPU time until then"}
    rows = []
    for name, title in titles.items():
        taken = [start[name] for start in result["starts"]]
        rows.append([title, *(f"{seconds:.2f}" for seconds in (median(taken), min(taken), max(taken)))])
    return markdown(header, rows)


def goals(result: dict[str, Any]) -> list[Goal]:
    taken = median(start["list"] for start in result["starts"])
    return [Goal("start to the first list of tasks: under 1 s", f"{taken:.2f} s", taken < GOAL)]


def _start(database: Postgres) -> dict[str, float]:
    started = time.monotonic()
    with this_project.starting(database.port) as server:
        answered = {name: _first_answer(server, path, started) for name, path in PATHS.items()}
        return answered | {"cpu": cpu_seconds(server.process.pid)}


def _first_answer(server: Server, path: str, started: float) -> float:
    # An open port holds a request until a worker accepts it, so that one request is usually enough.
    while time.monotonic() < started + START_TIMEOUT and server.process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=START_TIMEOUT)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.monotonic() - started
        time.sleep(0.002)
    raise RuntimeError(f"the server did not answer {path}\n{server.log_end}")
