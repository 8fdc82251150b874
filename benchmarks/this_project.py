"""Servers of this project alone, as it is deployed, with one worker or more."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks import data
from benchmarks.contenders import THIS_PROJECT
from benchmarks.operations import Request
from benchmarks.processes import START_TIMEOUT, Server

SETTLED = 0.3
"""Seconds from a worker's first database connection until it has opened its minimum and serves."""


@contextmanager
def starting(database_port: int, workers: int = 1) -> Iterator[Server]:
    """Yields a server that has just been started and may not answer yet."""
    contender = replace(THIS_PROJECT, command=lambda port: [*THIS_PROJECT.command(port), "--workers", str(workers)])
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-logs-") as folder:
        server = contender.server(database_port, Path(folder)).start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def serving(database_port: int, workers: int = 1) -> Iterator[Server]:
    """Yields a server when all of its workers answer, because an earlier client would stay with the first worker."""
    with starting(database_port, workers) as server:
        server.wait(f"/api/{data.user_id(1)}/tasks?limit=1")
        deadline = time.monotonic() + START_TIMEOUT
        while sum(_is_connected(worker, database_port) for worker in workers_of(server)) != workers:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{workers} workers did not connect to the database\n{server.log_end}")
            time.sleep(0.02)
        time.sleep(SETTLED)
        yield server


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def waited_for_a_core(server: Server) -> float:
    """Sums the seconds for which workers were ready to run but did not, as Linux counts them; NaN elsewhere.

    A large sum says that latencies depend more on the machine than on the server.
    """
    try:
        each = [Path(f"/proc/{worker.pid}/schedstat").read_text().split()[1] for worker in workers_of(server)]
    except FileNotFoundError:
        return float("nan")
    return sum(int(nanoseconds) for nanoseconds in each) / 1e9


def encoded(server: Server, requests: Sequence[Request]) -> list[bytes]:
    return [request.encode(server.port) for request in requests]


def _is_connected(worker: psutil.Process, port: int) -> bool:
    """Says if the worker has a database connection, which it opens just before it begins to serve."""
    established = (each for each in worker.net_connections("tcp4") if each.status == psutil.CONN_ESTABLISHED)
    return any(each.raddr.port == port for each in established)
