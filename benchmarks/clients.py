"""Many clients in one process: this process or another."""

import asyncio
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import count

import uvloop

from benchmarks.client import Answers, Client, Workload

LAST_ANSWERS = 15.0
"""Seconds after the end in which requests that were already sent may be answered."""


def run(load: Workload) -> Answers:
    """Returns when every client has its answers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return uvloop.run(_run(load))


@contextmanager
def in_another_process() -> Iterator[Callable[[Workload], Future[Answers]]]:
    """Yields `run` as it runs in another process, one workload after another."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        executor.submit(int).result()  # The process has started and imported everything.
        yield lambda load: executor.submit(run, load)


async def _run(load: Workload) -> Answers:
    loop = asyncio.get_running_loop()
    answers = Answers()
    numbers = count(load.first)
    last = None if load.number is None else load.first + load.number
    started = time.perf_counter()
    clients = [Client(load, answers, numbers, last, started + load.seconds) for _ in range(load.clients)]
    made = await asyncio.gather(
        *(loop.create_connection(lambda it=client: it, "127.0.0.1", load.port) for client in clients),  # type: ignore[misc]
        return_exceptions=True,
    )
    answers.refused = sum(isinstance(each, BaseException) for each in made)
    connected = [client for client, each in zip(clients, made, strict=True) if not isinstance(each, BaseException)]
    timeout = None if load.number is not None else load.seconds + LAST_ANSWERS
    if connected:
        _, silent = await asyncio.wait([client.done for client in connected], timeout=timeout)
        answers.broken += len(silent)
    answers.seconds = time.perf_counter() - started
    answers.each = [client.answered for client in clients]
    return answers
