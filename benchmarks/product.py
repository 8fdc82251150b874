"""The product alone, as it is deployed, with one worker or more."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks import data
from benchmarks.contenders import PRODUCT
from benchmarks.operations import Request
from benchmarks.processes import START_TIMEOUT, Server

SETTLED = 0.3
"""Seconds from the first connection to the database until a worker has all of its first ones and serves."""


@contextmanager
def starting(database_port: int, workers: int = 1) -> Iterator[Server]:
    """It has just been started and may not answer yet."""
    contender = replace(PRODUCT, command=lambda port: [*PRODUCT.command(port), "--workers", str(workers)])
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-logs-") as folder:
        server = contender.server(database_port, Path(folder)).start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def serving(database_port: int, workers: int = 1) -> Iterator[Server]:
    """All workers answer: a client that came before the others were there would stay with the first."""
    with starting(database_port, workers) as server:
        server.wait(f"/api/{data.user_id(1)}/tasks?limit=1")
        deadline = time.monotonic() + START_TIMEOUT
        while not _all_connected(server, database_port, workers):
            if time.monotonic() > deadline:
                raise RuntimeError(f"there are not {workers} workers\n{server.log_end}")
            time.sleep(0.02)
        time.sleep(SETTLED)
        yield server


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def waited_for_a_core(server: Server) -> float:
    """Seconds for which workers could have run but others did, as Linux counts them; not a number elsewhere.

    Where it is much, latencies say more about the machine than about the server.
    """
    try:
        each = [Path(f"/proc/{worker.pid}/schedstat").read_text().split()[1] for worker in workers_of(server)]
    except FileNotFoundError:
        return float("nan")
    return sum(int(nanoseconds) for nanoseconds in each) / 1e9


def encoded(server: Server, requests: Sequence[Request]) -> list[bytes]:
    return [request.encode(server.port) for request in requests]


def _all_connected(server: Server, database_port: int, workers: int) -> bool:
    """Each worker opens the database just before it begins to serve."""
    return sum(_is_connected(worker, database_port) for worker in workers_of(server)) == workers


def _is_connected(worker: psutil.Process, port: int) -> bool:
    there = (each for each in worker.net_connections("tcp4") if each.status == psutil.CONN_ESTABLISHED)
    return any(each.raddr.port == port for each in there)
