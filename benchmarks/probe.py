"""One client that asks the same few things in turns and notes how long each answer takes, as a monitor does."""

import http.client
import time
from collections.abc import Mapping
from contextlib import closing

from benchmarks.load import LoadFailed
from benchmarks.processes import Server

PAUSE = 0.001
"""Seconds between an answer and the next request, so that the client itself is hardly any load."""


def milliseconds(server: Server, paths: Mapping[str, str], seconds: float) -> dict[str, list[float]]:
    """By name, for each answer as it came. Raises `LoadFailed` when one is not 200."""
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
