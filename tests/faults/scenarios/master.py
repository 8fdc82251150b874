"""The master: workers that cannot start or are renewed, a log that nothing reads, and a stop in every state."""

import asyncio
import random
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

import psycopg

from tests.faults.bad_clients import Slow, post, stay
from tests.faults.connections import check_settled
from tests.faults.environment import READY, Environment, environment
from tests.faults.http import Http
from tests.faults.matrix import Result, Run, scenario
from tests.faults.readers import LIVE as LIVE_PATH
from tests.faults.readers import readers
from tests.faults.waiting import until
from tests.support.processes import free_port
from tests.support.servers import PipedWebServer, WebServer, copy_project

CLIENTS = 16
STOP_MAX = 10.0
"""Seconds after which a container platform kills; docs/server.md promises one less."""
LOST = re.compile(r"(\d+) lines of the log are lost")
LONG_LINES = {"GUNICORN_CMD_ARGS": f"--access-logfile - --access-logformat '%(h)s {'x' * 4000}'"}
"""Each request is a long line in the log, so that more is soon written than any pipe holds."""
NO_CODE = "\nfrom todos.nowhere import nothing\n"


async def _restart(env: Environment) -> None:
    """Gives the scenario a server with an empty log, and as many workers as it should have."""
    if env.web.process.poll() is None:
        await asyncio.to_thread(env.web.stop)
    env.restarts = 0
    await asyncio.to_thread(env.web.start)
    await asyncio.to_thread(env.web.wait_until_live)
    await until(lambda: env.web.log.count(READY) == env.workers)


@scenario(
    "the reader of the log is stuck", goal="no request fails or waits; SIGTERM ends the server within 10 s, status 0"
)
async def stuck_reader(run: Run, result: Result) -> None:
    exits, lost, slowest = list[float](), 0, 0.0
    async with environment(run, result, settings=LONG_LINES, web_kind=PipedWebServer) as env:
        assert isinstance(env.web, PipedWebServer)
        for _ in range(run.rounds(10, 1)):
            async with env.load(clients=CLIENTS) as found, env.live_probes() as latencies:
                await found.next_success(writes_only=True)
                env.web.freeze_reader()
                await asyncio.sleep(2)
                # Each 503 is a warning.
                await asyncio.to_thread(env.postgres.stop)
                await asyncio.sleep(1)
                await asyncio.to_thread(env.postgres.start)
                result.recoveries.append(await found.next_success())
                env.web.thaw_reader()
                await until(lambda: bool(LOST.search(env.web.log)))
                env.web.freeze_reader()
                await asyncio.sleep(1)
            lost += sum(map(int, LOST.findall(env.web.log)))
            slowest = max(slowest, *latencies)
            asked = monotonic()
            status = await asyncio.to_thread(env.web.stop)
            exits.append(monotonic() - asked)
            result.rounds += 1
            result.expect(status == 0, f"the exit status is {status}")
            env.web.thaw_reader()
            await check_settled(result, env.conninfo, 0)
            await _restart(env)
    result.goal(max(exits) <= STOP_MAX, f"an exit took {max(exits):.1f} s")
    result.goal(slowest <= 1, f"a live probe took {slowest:.1f} s")
    result.figures["exit"] = f"after {max(exits):.1f} s at most"
    result.figures["slowest live probe"] = f"{slowest * 1000:.0f} ms"
    result.figures["lines that are counted as lost"] = f"{lost:,}"


@scenario(
    "code that cannot be loaded, then a crash or SIGHUP",
    goal="workers that serve go on, no request fails but those of the worker that is killed; whole again when mended",
)
async def broken_code(run: Run, result: Result) -> None:
    project = await asyncio.to_thread(copy_project, run.folder / "project")
    code = project / "todos" / "api.py"
    whole = code.read_text()
    async with environment(run, result, project=project) as env:
        env.limit *= 2
        for number in range(run.rounds(20, 2)):
            crashes = number % 2 > 0
            async with env.load(clients=CLIENTS, may_be_unavailable=False, may_be_cut=crashes) as found:
                await found.next_success(writes_only=True)
                code.write_text(whole + NO_CODE)
                ready, cut = env.web.log.count(READY), found.cut
                await (_crash if crashes else _reload_in_vain)(env)
                await found.next_success(writes_only=True)
                result.expect(found.cut - cut <= CLIENTS, f"{found.cut - cut} requests were cut by one kill")
                mended = monotonic()
                code.write_text(whole)
                if not crashes:
                    env.web.process.send_signal(signal.SIGHUP)
                new = ready + (1 if crashes else env.workers)
                await until(lambda new=new: env.web.log.count(READY) == new and len(env.processes) == env.workers)  # type: ignore[misc] # mypy cannot tell
                result.recoveries.append(monotonic() - mended)
            result.rounds += 1
        starts = env.web.log.count("Booting worker")
        await _restart(env)
    result.figures["starts of workers, failed ones included"] = f"{starts:,}"


async def _reload_in_vain(env: Environment) -> None:
    failed, old = env.web.log.count("The reload has failed"), set(env.processes)
    env.web.process.send_signal(signal.SIGHUP)
    await until(lambda: env.web.log.count("The reload has failed") > failed)
    await until(lambda: len(env.processes) == env.workers)
    env.result.expect(set(env.processes) == old, "a reload in vain has cost a worker")


async def _crash(env: Environment) -> None:
    failed = env.web.log.count("A worker could not start")
    random.choice(env.processes).kill()
    await until(lambda: env.web.log.count("A worker could not start") >= failed + 2)


@scenario("`--max-requests` under load", goal="no failed request in 20 renewals, on kept and on new connections")
async def max_requests(run: Run, result: Result) -> None:
    settings = {"GUNICORN_CMD_ARGS": "--max-requests 1500 --max-requests-jitter 500"}
    async with environment(run, result, settings=settings) as env:
        env.limit *= 2
        async with (
            env.load(clients=CLIENTS, may_be_unavailable=False) as found,
            readers(env.web.port, result, [LIVE_PATH] * 4, pause=0.001, keep_alive=False) as new,
        ):
            for renewals in range(1, run.rounds(20, 2) + 1):
                await until(partial(_has_renewed, env, renewals))
                result.rounds += 1
        env.restarts = env.web.log.count("Booting worker") - env.workers
        result.figures["requests"] = f"{len(found.samples):,} on kept connections, {len(new):,} on new ones"
        slowest = max(sample.seconds for sample in found.samples)
        result.figures["slowest answer"] = f"{slowest * 1000:.0f} ms"
        # A renewal may be under way.
        await until(lambda: len(env.processes) == env.workers)


def _has_renewed(env: Environment, times: int) -> bool:
    return env.web.log.count("Worker exiting") >= times * env.workers


@scenario("SIGTERM in every state", goal="exit within 10 s, status 0, connections to the database closed")
async def stop_in_every_state(run: Run, result: Result) -> None:
    exits: dict[str, float] = {}

    async def stop(state: str, web: WebServer) -> None:
        asked = monotonic()
        status = await asyncio.to_thread(web.stop)
        exits[state] = max(exits.get(state, 0), monotonic() - asked)
        result.rounds += 1
        result.expect(status == 0, f"{state}: the exit status is {status}")

    async with environment(run, result, settings=LONG_LINES, web_kind=PipedWebServer) as env:
        for _ in range(run.rounds(5, 1)):
            for state, make in _STATES.items():
                async with make(env):
                    await stop(state, env.web)
                assert isinstance(env.web, PipedWebServer)
                env.web.thaw_reader()
                await check_settled(result, env.conninfo, 0)
                await _restart(env)
            await _stop_a_start_without_a_database(run.folder, stop)
    for state, seconds in exits.items():
        result.goal(seconds <= STOP_MAX, f"{state}: an exit took {seconds:.1f} s")
    result.figures |= {state: f"{seconds:.1f} s at most" for state, seconds in exits.items()}


async def _stop_a_start_without_a_database(folder: Path, stop: Callable[..., object]) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/todo",
    }
    web = WebServer(folder, settings, "--workers", "2")
    await asyncio.to_thread(web.start)
    await until(lambda: "Attempt 2 of 6" in web.log)
    await stop("start without a database", web)  # type: ignore[misc] # it is a coroutine function
    web.http.close()


@asynccontextmanager
async def _reloading(env: Environment) -> AsyncIterator[None]:
    started = env.web.log.count("Booting worker")
    env.web.process.send_signal(signal.SIGHUP)
    await until(lambda: env.web.log.count("Booting worker") > started)
    yield


@asynccontextmanager
async def _reloading_often(env: Environment) -> AsyncIterator[None]:
    for _ in range(4):
        env.web.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(random.uniform(0, 0.1))
    yield


@asynccontextmanager
async def _replacing(env: Environment) -> AsyncIterator[None]:
    started = env.web.log.count("Booting worker")
    random.choice(env.processes).kill()
    await until(lambda: env.web.log.count("Booting worker") > started)
    yield


@asynccontextmanager
async def _with_requests_that_wait(env: Environment) -> AsyncIterator[None]:
    slow = Slow()
    request = post(f"/api/{env.users[0]}/tasks", b'{"title": "Waits"}')
    with psycopg.connect(env.conninfo) as connection:
        connection.execute("LOCK TABLE tasks IN EXCLUSIVE MODE")
        waiting = [asyncio.create_task(stay(env.web.port, request, b"", slow)) for _ in range(8)]
        await asyncio.sleep(0.5)
        yield
        for task in waiting:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def _with_a_frozen_worker(env: Environment) -> AsyncIterator[None]:
    env.processes[0].suspend()
    yield


@asynccontextmanager
async def _with_a_log_that_nothing_reads(env: Environment) -> AsyncIterator[None]:
    assert isinstance(env.web, PipedWebServer)
    env.web.freeze_reader()
    http = Http(env.web.port)
    for _ in range(200):
        await http.request("GET", LIVE_PATH)
    http.close()
    yield


_STATES = {
    "reloading": _reloading,
    "reloading four times": _reloading_often,
    "a worker is replaced": _replacing,
    "requests wait for a lock": _with_requests_that_wait,
    "a worker is frozen": _with_a_frozen_worker,
    "nothing reads the log": _with_a_log_that_nothing_reads,
}
