"""Crowds of clients that misbehave, and their effect on well-behaved clients."""

import asyncio
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from itertools import cycle
from uuid import UUID, uuid4

import psycopg

from tests.faults.bad_clients import Slow, flood, insist, post, stay, vanish
from tests.faults.environment import Environment, environment
from tests.faults.http import Http
from tests.faults.matrix import Result, Run, scenario
from tests.faults.readers import readers
from tests.faults.waiting import until
from tests.support.sockets import LIVE
from tests.support.worst_inputs import PLAIN, bodies, heads

AT_ONCE = 100
TITLE = "Vanishing"
DESCRIPTION = "x" * 1000
DEADLINE = 10.0
LATEST = DEADLINE + 4
"""The deadline, and what a busy machine adds: the server checks once a second, and lingers for two."""
FLOODS, FLOODS_AT_ONCE = 100, 20
HEAVY_CLIENTS, HEAVY_TASKS = 40, 200_000
MEBIBYTE = 1024 * 1024
WARNINGS = ("WARNING", "ERROR", "CRITICAL")


@scenario(
    "clients that disconnect at random moments", goal="no connection lost, writes complete, no warning in the log"
)
async def disconnecting(run: Run, result: Result) -> None:
    result.rounds = run.rounds(10_000, 1_500)
    async with environment(run, result) as env, _good_clients(env):
        user, path = env.users[0], f"/api/{env.users[0]}/tasks"
        bodies = (
            b'{"title": "%s %d", "description": "%s"}' % (TITLE.encode(), number, DESCRIPTION.encode())
            for number in range(result.rounds)
        )
        requests = (post(path, body) if number % 4 else LIVE for number, body in enumerate(bodies))
        await _gather((vanish(env.web.port, request) for request in requests), AT_ONCE)
        await asyncio.to_thread(_check_whole, env, user)


def _check_whole(env: Environment, user: UUID) -> None:
    result = env.result
    with psycopg.connect(env.conninfo) as connection:
        rows = connection.execute("SELECT title, description FROM tasks WHERE user_id = %s", [user]).fetchall()
    times = Counter(title for title, _ in rows)
    result.doubled += sum(number - 1 for number in times.values())
    whole = sum(title.startswith(TITLE) and description == DESCRIPTION for title, description in rows)
    result.expect(whole == len(rows), f"{len(rows) - whole} writes are not whole")
    result.expect(whole > 0, "nothing was written at all")
    result.figures["writes that were finished"] = f"{whole:,}"


@scenario("slow or silent clients", goal="closed at a deadline of about 10 s; p99 of others within 20 %")
async def slow_clients(run: Run, result: Result) -> None:
    """Measures other clients alternately with and without them, so that other load on the machine disturbs both."""
    number, slow = run.rounds(1_000, 200), Slow()
    without, beside = list[float](), list[float]()
    async with environment(run, result) as env, _good_clients(env) as latencies:
        body = post(f"/api/{env.users[0]}/tasks", b" " * 1000)[:-900]
        behaviours = ((b"", b""), (LIVE[:30], b""), (LIVE[:-2] + b"X-Slow: ", b"a"), (body, b""), (body, b" "))
        while result.rounds < run.rounds(6, 1):
            without += await _sample(latencies, run)
            crowd = [asyncio.create_task(stay(env.web.port, *behaviours[each % 5], slow)) for each in range(number)]
            await until(lambda: slow.open == number)
            beside += await _sample(latencies, run)
            await asyncio.gather(*crowd)
            result.rounds += 1
            without += await _sample(latencies, run)
    result.goal(max(slow.seconds) < LATEST, f"one stayed connected for {max(slow.seconds):.1f} s")
    result.expect(len(slow.seconds) == number * result.rounds, "some were never closed")
    result.expect(slow.statuses == {b"408"}, f"their statuses were {slow.statuses}")
    before, after = (statistics.quantiles(each, n=100)[98] * 1000 for each in (without, beside))
    result.goal(after <= before * 1.2, f"the p99 of others went from {before:.1f} to {after:.1f} ms")
    result.figures["closed"] = f"after {min(slow.seconds):.1f} to {max(slow.seconds):.1f} s"
    result.figures["p99 of others without / beside them"] = f"{before:.1f} / {after:.1f} ms"


async def _sample(latencies: list[float], run: Run) -> list[float]:
    """The latencies of the next seconds."""
    latencies.clear()
    await asyncio.sleep(run.rounds(5, 2))
    return list(latencies)


@scenario(
    "one user with 200,000 tasks, 40 clients that search, sort and count them",
    goal="p99 of others within 1.5 times that beside one busy processor, the live probe within 250 ms; the 40 get 200, "
    "or 503 with Retry-After",
)
async def heavy_user(run: Run, result: Result) -> None:
    """Measures other clients in turns alone, beside a program that computes, and beside the 40.

    A search keeps one processor busy. That alone makes others slower on a machine with two, where the database, the
    workers and the clients are together, so that it is what the 40 are compared with.
    """
    without, control, beside, live = list[float](), list[float](), list[float](), list[float]()
    statuses = Counter[int]()
    async with environment(run, result, pool_max=20) as env:
        user = await asyncio.to_thread(_store_many, env, HEAVY_TASKS)
        # The lists of the 40 may take long, so that there are warnings in the log.
        paths = [f"/api/{user}/tasks?limit=10" for user in env.users]
        async with readers(env.web.port, result, paths) as latencies, env.live_probes() as probes:
            while result.rounds < run.rounds(6, 1):
                without += await _sample(latencies, run)
                busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
                control += await _sample(latencies, run)
                busy.kill()
                await busy.wait()
                probes.clear()
                crowd = [asyncio.create_task(_ask_for_much(env, user, statuses)) for _ in range(HEAVY_CLIENTS)]
                await asyncio.sleep(1)
                beside += await _sample(latencies, run)
                live += probes
                for client in crowd:
                    client.cancel()
                await asyncio.gather(*crowd, return_exceptions=True)
                result.rounds += 1
                await asyncio.sleep(1)
    result.expect(set(statuses) <= {200, 503}, f"their statuses were {statuses}")
    result.unavailable += statuses[503]
    before, busy_p99, after = (statistics.quantiles(each, n=100)[98] * 1000 for each in (without, control, beside))
    result.goal(after <= busy_p99 * 1.5, f"the p99 of others went from {busy_p99:.1f} to {after:.1f} ms")
    result.goal(max(live) <= 0.25, f"the live probe took {max(live):.2f} s")
    figures = f"{before:.1f} / {busy_p99:.1f} / {after:.1f} ms"
    result.figures["p99 of others alone / beside a busy processor / beside the 40"] = figures
    result.figures["slowest live probe"] = f"{max(live) * 1000:.0f} ms"
    result.figures["the 40 got"] = f"{statuses[200]:,} times 200, {statuses[503]:,} times 503"


def _store_many(env: Environment, number: int) -> UUID:
    user = uuid4()
    with psycopg.connect(env.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, 'heavy@example.com')", [user])
        connection.execute(
            "INSERT INTO tasks (id, user_id, title, description, tags)"
            " SELECT gen_random_uuid(), %s, 'Task ' || n, repeat('A description of some length. ', 5), ARRAY['home']"
            " FROM generate_series(1, %s) AS n",
            [user, number],
        )
        connection.execute("VACUUM ANALYZE tasks")
    return user


async def _ask_for_much(env: Environment, user: UUID, statuses: Counter[int]) -> None:
    """Sends one request after the other, each of which reads all tasks of the user, until it is cancelled."""
    http = Http(env.web.port)
    try:
        for query in cycle(("?q=nothing-has-this-word", "?sort=title", "/summary", "?q=some&sort=-updated_at")):
            answer = await http.request("GET", f"/api/{user}/tasks{query}")
            statuses[answer.status] += 1
            env.result.expect(answer.status != 503 or "retry-after" in answer.headers, "a 503 without Retry-After")
    finally:
        http.close()


@scenario("four clients that send the worst inputs", goal="no failure; p99 of others within twice that beside creates")
async def worst_inputs(run: Run, result: Result) -> None:
    """Measures other clients beside four that create tasks all the time, and beside four with the worst inputs."""
    creating, refused = list[float](), list[float]()
    async with environment(run, result) as env, _good_clients(env) as latencies:
        path = f"/api/{env.users[0]}/tasks".encode()
        worst = [*heads().values(), *bodies(64 * 1024).values()]
        while result.rounds < run.rounds(6, 1):
            for requests, seconds in (([PLAIN], creating), (worst, refused)):
                sent = [request.replace(b"TASKS", path) for request in requests]
                clients = [asyncio.create_task(insist(env.web.port, sent)) for _ in range(4)]
                seconds.extend(await _sample(latencies, run))
                for client in clients:
                    client.cancel()
                ends = await asyncio.gather(*clients, return_exceptions=True)
                result.violations += [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]
            result.rounds += 1
    before, after = (statistics.quantiles(each, n=100)[98] * 1000 for each in (creating, refused))
    result.goal(
        after <= before * 2, f"the p99 of others was {before:.1f} beside creates and {after:.1f} ms beside these"
    )
    result.figures["p99 of others beside creates / the worst inputs"] = f"{before:.1f} / {after:.1f} ms"


@scenario("body flood, chunked, no end", goal="413 early, under 1 MiB read, memory level")
async def flooding(run: Run, result: Result) -> None:
    read = list[int]()
    async with environment(run, result) as env:

        async def one(*, goes_on: bool) -> None:
            received, is_cut = await flood(env.web.port, f"/api/{env.users[0]}/tasks", goes_on=goes_on)
            result.rounds += 1
            result.expect(received.startswith(b"HTTP/1.1 413"), f"answered {received[:40]!r}")
            result.expect(is_cut or not goes_on, "nothing stopped it")

        for _ in range(run.rounds(20, 2)):
            before = _bytes_read(env)
            await one(goes_on=True)
            read.append(_bytes_read(env) - before)
        # The first floods at once take memory that is kept for the next ones.
        await _gather((one(goes_on=False) for _ in range(3 * FLOODS)), FLOODS_AT_ONCE)
        before = _memory(env)
        async with _good_clients(env):
            floods = (one(goes_on=not run.quick) for _ in range(run.rounds(10, 2) * FLOODS))
            await _gather(floods, FLOODS_AT_ONCE)
        grown = _memory(env) - before
    result.expect(max(read) < MEBIBYTE, f"{max(read):,} bytes of one were read")
    result.expect(grown < 8 * MEBIBYTE, f"{grown:,} bytes more memory")
    result.figures["read of one"] = f"{max(read):,} bytes at most"
    result.figures["more memory after all"] = f"{max(grown, 0) / MEBIBYTE:.1f} MiB"


def _bytes_read(env: Environment) -> int:
    """Bytes that the workers have read from files and sockets."""
    return sum(worker.io_counters().read_chars for worker in env.processes)


def _memory(env: Environment) -> int:
    return sum(worker.memory_info().rss for worker in env.processes)


async def _gather(work: Iterable[Awaitable[None]], at_once: int) -> None:
    waiting = iter(work)

    async def run() -> None:
        for one in waiting:
            await one

    await asyncio.gather(*(run() for _ in range(at_once)))


@asynccontextmanager
async def _good_clients(env: Environment) -> AsyncIterator[list[float]]:
    """Reads tasks until the block ends, and yields the latencies. No request may fail, and no warning be logged."""
    paths = [f"/api/{user}/tasks?limit=10" for user in env.users]
    async with readers(env.web.port, env.result, paths) as latencies:
        yield latencies
    env.expect_log_without(*WARNINGS)
