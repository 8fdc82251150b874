"""Many clients in one process, this one or another."""

import asyncio
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import count

import uvloop

from benchmarks.client import Answers, Client, Crowd

LAST_ANSWERS = 15.0
"""Seconds that requests already sent may take when no more are to be sent."""


def run(crowd: Crowd) -> Answers:
    """Returns when all have their answers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return uvloop.run(_run(crowd))


@contextmanager
def elsewhere() -> Iterator[Callable[[Crowd], Future[Answers]]]:
    """`run` in a process of its own, one crowd after another."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        executor.submit(int).result()  # From now on it is there and has nothing left to import.
        yield lambda crowd: executor.submit(run, crowd)


async def _run(crowd: Crowd) -> Answers:
    loop = asyncio.get_running_loop()
    answers = Answers()
    turns = count(crowd.first)
    last = None if crowd.number is None else crowd.first + crowd.number
    started = time.perf_counter()
    clients = [Client(crowd, answers, turns, last, started + crowd.seconds) for _ in range(crowd.clients)]
    made = await asyncio.gather(
        *(loop.create_connection(lambda it=client: it, "127.0.0.1", crowd.port) for client in clients),  # type: ignore[misc]
        return_exceptions=True,
    )
    answers.refused = sum(isinstance(each, BaseException) for each in made)
    there = [client for client, each in zip(clients, made, strict=True) if not isinstance(each, BaseException)]
    limit = None if crowd.number is not None else crowd.seconds + LAST_ANSWERS
    if there:
        _, silent = await asyncio.wait([client.done for client in there], timeout=limit)
        answers.broken += len(silent)
    answers.seconds = time.perf_counter() - started
    answers.each = [client.answered for client in clients]
    return answers
