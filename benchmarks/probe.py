"""One client that repeats the same few requests and measures each answer's latency, as a monitor does."""

import http.client
import time
from collections.abc import Mapping
from contextlib import closing

from benchmarks.processes import Server
from benchmarks.wrk import LoadFailed

PAUSE = 0.001
"""Seconds between an answer and the next request, so that the client itself is hardly any load."""


def milliseconds(server: Server, paths: Mapping[str, str], seconds: float) -> dict[str, list[float]]:
    """Returns the latencies by name, in the order of the answers. Raises `LoadFailed` for a status other than 200."""
    taken: dict[str, list[float]] = {name: [] for name in paths}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for name, path in paths.items():
                started = time.perf_counter()
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                taken[name].append((time.perf_counter() - started) * 1000)
                if response.status != 200:
                    raise LoadFailed(f"{response.status} for {path}\n{server.log_end}")
                time.sleep(PAUSE)
    return taken
