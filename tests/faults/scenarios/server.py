"""The processes of the web server: one worker is killed, all are replaced, all are stopped."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic

from tests.faults import clients
from tests.faults.bad_clients import Slow, stay
from tests.faults.connections import check_settled
from tests.faults.environment import READY, Environment, environment
from tests.faults.matrix import Result, Run, scenario
from tests.faults.readers import LIVE as LIVE_PATH
from tests.faults.readers import readers
from tests.faults.waiting import until
from tests.support.sockets import LIVE

CLIENTS = 16
SILENT = 100


@scenario(
    "a gunicorn worker killed with -9 under load",
    goal="only its in-flight requests fail; respawned within 2 s; nothing acknowledged lost",
)
async def worker_killed(run: Run, result: Result) -> None:
    times = list[tuple[float, float]]()
    async with environment(run, result) as env:
        async with env.load(clients=CLIENTS, may_be_unavailable=False, may_be_cut=True) as found:
            await found.next_success(writes_only=True)
            for _ in range(run.rounds(50, 2)):
                cut = found.cut
                replacing = asyncio.create_task(_replace(env, 1, random.choice(env.processes).kill))
                await asyncio.sleep(0)
                result.recoveries.append(await found.next_success())
                times.append(await replacing)
                result.rounds += 1
                # Each client sends one request at a time, so no more can be in flight.
                result.expect(found.cut - cut <= CLIENTS, f"{found.cut - cut} requests were cut by one kill")
                await asyncio.sleep(random.uniform(0, 0.5))
        respawned, serving = (max(each) for each in zip(*times, strict=True))
        result.goal(respawned <= 2, f"respawned after {respawned:.1f} s")
        result.figures["in flight and cut"] = f"{found.cut} in {result.rounds} kills"
        result.figures["new worker there"] = f"after {respawned:.2f} s at most"
        result.figures["new worker serving"] = f"after {serving:.2f} s at most"


async def _replace(env: Environment, number: int, action: Callable[[], object]) -> tuple[float, float]:
    """Does an action that replaces so many workers, and waits until the new ones listen and all replaced ones ended.

    Returns the seconds until the new workers were started, and until they listened.
    """
    old, listening = set(env.processes), env.web.log.count(READY)
    env.restarts += number
    action()
    started = await until(lambda: len(set(env.processes) - old) == number)
    serving = started + await until(lambda: env.web.log.count(READY) == listening + number)
    await until(lambda: len(old & set(env.processes)) == env.workers - number)
    return started, serving


@scenario("SIGHUP reload under load", goal="no failed request of 50,000 in 20 reloads, on kept and on new connections")
async def reload(run: Run, result: Result) -> None:
    reloads, requests = run.rounds(20, 1), run.rounds(50_000, 0)
    async with environment(run, result) as env:
        # The connections of old and new workers are open at the same time.
        env.limit *= 2
        async with (
            env.load(clients=CLIENTS, may_be_unavailable=False) as found,
            readers(env.web.port, result, [LIVE_PATH] * 4, pause=0.001, keep_alive=False) as new,
        ):
            await found.next_success(writes_only=True)
            while result.rounds < reloads or len(found.samples) + len(new) < requests:
                asked = monotonic()
                await _replace(env, env.workers, partial(env.web.process.send_signal, signal.SIGHUP))
                result.recoveries.append(monotonic() - asked)
                result.rounds += 1
                await asyncio.sleep(random.uniform(0, 1))
        result.figures["requests"] = f"{len(found.samples):,} on kept connections, {len(new):,} on new ones"
        slowest = max(sample.seconds for sample in found.samples)
        result.figures["slowest answer"] = f"{slowest * 1000:.0f} ms"


@scenario(
    "SIGTERM under load with 100 silent sockets open",
    goal="in-flight requests finish, exit within 5 s, status 0, connections to the database closed",
)
async def stop(run: Run, result: Result) -> None:
    exits, later = list[float](), 0
    async with environment(run, result) as env:
        for _ in range(run.rounds(20, 1)):
            before, port = len(env.history.operations), env.web.port
            async with _silent(port), clients.load(port, env.users, env.history, clients=CLIENTS) as found:
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0.2, 0.7))
                asked = monotonic()
                status = await asyncio.to_thread(env.web.stop)
                exits.append(monotonic() - asked)
            result.rounds += 1
            result.expect(status == 0, f"the exit status is {status}")
            result.expect(env.web.log.count("Worker exiting") == env.workers, "a worker was killed")
            env.expect_log_without("Forcing close", "Traceback", "CRITICAL")
            await check_settled(result, env.conninfo, 0)
            # Requests that could not be sent have not failed, because the server is gone. A request that was sent more
            # than a second after the signal may find the connection closed.
            operations = [each for each in env.history.operations[before:] if each.invoked_at <= asked]
            in_flight = sum(each.unknown_attempts > 0 for each in operations)
            later += found.cut - in_flight
            result.failed += in_flight + found.unavailable + len(found.failures)
            result.expect(not in_flight, f"{in_flight} requests in flight were cut")
            result.violations += found.failures
            await asyncio.to_thread(env.web.start)
            await asyncio.to_thread(env.web.wait_until_live)
        postgres = await asyncio.to_thread((env.postgres.folder / "log").read_text)
        result.expect("unexpected EOF" not in postgres, "PostgreSQL met the end of a connection unexpectedly")
        result.goal(max(exits) <= 5, f"an exit took {max(exits):.1f} s")
        result.figures["exit"] = f"after {max(exits):.1f} s at most"
        result.figures["cut, sent after the signal"] = str(later)


@asynccontextmanager
async def _silent(port: int) -> AsyncIterator[None]:
    """Opens a hundred connections: half of them silent, the others with half a request or a whole one."""
    slow = Slow()
    parts = (b"", b"", LIVE[:20], LIVE)
    async with AsyncExitStack() as stack:
        for number in range(SILENT):
            task = asyncio.create_task(stay(port, parts[number % 4], b"", slow))
            stack.callback(task.cancel)
        await until(lambda: slow.open == SILENT)
        # The server must have accepted the connections, too.
        await asyncio.sleep(0.3)
        yield
