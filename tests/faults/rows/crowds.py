"""Crowds of clients who are no decent ones, and what the decent ones notice of them."""

import asyncio
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import UUID

import psycopg

from tests.faults.bed import Bed, bed
from tests.faults.crowd import LIVE, Slow, flood, post, stay, vanish
from tests.faults.http import Cut, Http, Unsent
from tests.faults.matrix import Result, Stage, fault

AT_ONCE = 100
SHORT = "Vanishing"
LONG = "x" * 1000
DEADLINE = 10.0
LATEST = DEADLINE + 4
"""With what a busy machine adds: the server looks once a second, and lingers for two."""
DECENT = 8
WORSE = 1.2
FLOODS, FLOODS_AT_ONCE = 100, 20
MEBIBYTE = 1024 * 1024
GROWTH = 8 * MEBIBYTE
WARNINGS = ("WARNING", "ERROR", "CRITICAL", "Traceback")


@fault("clients that disconnect at random moments", goal="pool whole throughout, writes whole, no warning in the log")
async def disconnecting(stage: Stage) -> Result:
    result = Result()
    clients = stage.rounds(10_000, 1_500)
    async with bed(stage.folder) as made:
        gone, path = made.users[0], f"/api/{made.users[0]}/tasks"
        async with _decent(made, result):
            room = asyncio.Semaphore(AT_ONCE)

            async def one(number: int) -> None:
                async with room:
                    body = b'{"title": "%s %d", "description": "%s"}' % (SHORT.encode(), number, LONG.encode())
                    await vanish(made.web.port, post(path, body) if number % 4 else LIVE)

            await asyncio.gather(*(one(number) for number in range(clients)))
        result.rounds = clients
        await made.settle(result)
        await asyncio.to_thread(_check_whole, made.conninfo, gone, result)
        _check_log(made, result)
    return result


def _check_whole(conninfo: str, user: UUID, result: Result) -> None:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT title, description FROM tasks WHERE user_id = %s", [user]).fetchall()
    times = Counter(title for title, _ in rows)
    result.doubled += sum(number - 1 for number in times.values())
    whole = sum(title.startswith(SHORT) and description == LONG for title, description in rows)
    result.expect(whole == len(rows), f"{len(rows) - whole} writes are not whole")
    result.expect(whole > 0, "nothing was written at all")
    result.figures["writes that were finished"] = f"{whole:,}"


@fault("slow or silent clients", goal="closed at a deadline of about 10 s; p99 of others within 20 %")
async def slow_clients(stage: Stage) -> Result:
    """Others are timed with and without them in turns, so that whatever else the machine does disturbs both."""
    result = Result()
    clients, slow = stage.rounds(1_000, 200), Slow()
    without, beside = list[float](), list[float]()
    async with bed(stage.folder) as made:
        async with _decent(made, result) as latencies:
            while result.rounds < stage.rounds(6, 1):
                without += await _timed(latencies, stage)
                crowd = [
                    asyncio.create_task(stay(made.web.port, *_behaviour(made, number), slow))
                    for number in range(clients)
                ]
                await _until(lambda: slow.open == clients)
                beside += await _timed(latencies, stage)
                await asyncio.gather(*crowd)
                result.rounds += 1
                without += await _timed(latencies, stage)
        await made.settle(result)
        _check_log(made, result)
    result.goal(max(slow.seconds) < LATEST, f"one was borne for {max(slow.seconds):.1f} s")
    result.expect(len(slow.seconds) == clients * result.rounds, "some were never closed")
    result.expect(slow.statuses == {b"408"}, f"they were answered {slow.statuses}")
    before, after = _p99(without), _p99(beside)
    result.goal(after <= before * WORSE, f"the p99 of others went from {before:.1f} to {after:.1f} ms")
    result.figures["closed"] = f"after {min(slow.seconds):.1f} to {max(slow.seconds):.1f} s"
    result.figures["p99 of others without / beside them"] = f"{before:.1f} / {after:.1f} ms"
    return result


def _behaviour(made: Bed, number: int) -> tuple[bytes, bytes]:
    """What a client begins with, and goes on with."""
    body = post(f"/api/{made.users[0]}/tasks", b" " * 1000)[:-900]
    return ((b"", b""), (LIVE[:30], b""), (LIVE[:-2] + b"X-Slow: ", b"a"), (body, b""), (body, b" "))[number % 5]


async def _timed(latencies: list[float], stage: Stage) -> list[float]:
    """What others met within the next seconds."""
    latencies.clear()
    await asyncio.sleep(stage.rounds(5, 2))
    return list(latencies)


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1000


@fault("body flood, chunked, no end", goal="413 early, under 1 MiB read, memory level")
async def flooding(stage: Stage) -> Result:
    result, read = Result(), list[int]()
    async with bed(stage.folder) as made:
        path = f"/api/{made.users[0]}/tasks"

        async def one(*, goes_on: bool) -> None:
            received, is_cut = await flood(made.web.port, path, goes_on=goes_on)
            result.rounds += 1
            result.expect(received.startswith(b"HTTP/1.1 413"), f"answered {received[:40]!r}")
            result.expect(is_cut or not goes_on, "nothing stopped it")

        for _ in range(stage.rounds(20, 2)):
            before = _read(made)
            await one(goes_on=True)
            read.append(_read(made) - before)
        # As many at once as there will be take memory that stays, for whoever comes next.
        await _crowded(lambda: one(goes_on=False), 3 * FLOODS)
        before = _memory(made)
        async with _decent(made, result):
            await _crowded(lambda: one(goes_on=not stage.quick), stage.rounds(10, 2) * FLOODS)
        grown = _memory(made) - before
        await made.settle(result)
        _check_log(made, result)
    result.expect(max(read) < MEBIBYTE, f"{max(read):,} bytes of one were read")
    result.expect(grown < GROWTH, f"{grown:,} bytes more memory")
    result.figures["read of one"] = f"{max(read):,} bytes at most"
    result.figures["more memory after all"] = f"{max(grown, 0) / MEBIBYTE:.1f} MiB"
    return result


async def _crowded(one: Callable[[], Awaitable[None]], number: int) -> None:
    room = asyncio.Semaphore(FLOODS_AT_ONCE)

    async def enter() -> None:
        async with room:
            await one()

    await asyncio.gather(*(enter() for _ in range(number)))


def _read(made: Bed) -> int:
    """Bytes that the workers have read from anywhere."""
    return sum(worker.io_counters().read_chars for worker in made.processes)


def _memory(made: Bed) -> int:
    return sum(worker.memory_info().rss for worker in made.processes)


@asynccontextmanager
async def _decent(made: Bed, result: Result) -> AsyncIterator[list[float]]:
    """Some who read tasks all the time, and must never notice anything; they yield how long it took them."""
    latencies, ending = list[float](), False

    async def use(user: UUID) -> None:
        client = Http(made.web.port)
        while not ending:
            try:
                answer = await client.request("GET", f"/api/{user}/tasks?limit=10")
            except (Unsent, Cut) as error:
                result.failed += 1
                result.expect(False, f"a decent client met: {error}")
            else:
                result.failed += answer.status != 200
                result.expect(answer.status == 200, f"a decent client met {answer.status}: {answer.body[:100]!r}")
                latencies.append(answer.seconds)
            await asyncio.sleep(random.uniform(0, 0.02))
        client.close()

    crowd = [asyncio.create_task(use(user)) for user in made.users[-DECENT:]]
    try:
        yield latencies
    finally:
        ending = True
        await asyncio.gather(*crowd)


def _check_log(made: Bed, result: Result) -> None:
    log = made.web.log
    for word in WARNINGS:
        result.expect(word not in log, f"the log says: {log[max(0, log.find(word) - 40) :][:300]}")


async def _until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    started = monotonic()
    while not condition():
        if monotonic() - started > timeout:
            raise TimeoutError(f"not within {timeout:g} s")
        await asyncio.sleep(0.01)
