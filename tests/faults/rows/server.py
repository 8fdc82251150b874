"""The server's own processes: a worker dies, all are replaced, all are to stop."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

import psutil

from tests.faults.bed import bed
from tests.faults.clients import load
from tests.faults.connections import settled
from tests.faults.crowd import LIVE, Slow, stay
from tests.faults.history import History
from tests.faults.http import Cut, Http, Unsent
from tests.faults.matrix import Result, Stage, fault
from tests.faults.verdict import conclude, judge

CLIENTS = 16
SILENT = 100
READY = "ASGI server listening"
RESPAWN_LIMIT = 2.0
EXIT_LIMIT = 5.0


@fault(
    "a gunicorn worker killed with -9 under load",
    goal="only its in-flight requests fail; respawned within 2 s; nothing acknowledged lost",
)
async def worker_killed(stage: Stage) -> Result:
    result, respawned, serving = Result(), list[float](), list[float]()
    async with bed(stage.folder) as made:
        history = History()
        async with load(made.web.port, made.users, history, clients=CLIENTS) as found:
            await found.next_success(writes_only=True)
            while result.rounds < stage.rounds(50, 2):
                cut, ready, old = found.cut, made.web.log.count(READY), set(made.processes)
                random.choice(made.processes).kill()
                killed = monotonic()
                result.rounds += 1
                result.recoveries.append(await found.next_success())
                await _until(lambda old=old: len(set(made.processes) - old) == 1)  # type: ignore[misc]
                respawned.append(monotonic() - killed)
                await _until(lambda ready=ready: made.web.log.count(READY) > ready)  # type: ignore[misc]
                serving.append(monotonic() - killed)
                # Each client has one request at a time, so no more can be in flight.
                result.expect(found.cut - cut <= CLIENTS, f"{found.cut - cut} requests were cut by one kill")
                await asyncio.sleep(random.uniform(0, 0.5))
        result.goal(max(respawned) <= RESPAWN_LIMIT, f"respawned after {max(respawned):.1f} s")
        result.figures["in flight and cut"] = f"{found.cut} in {result.rounds} kills"
        result.figures["new worker there"] = f"after {max(respawned):.2f} s at most"
        result.figures["new worker serving"] = f"after {max(serving):.2f} s at most"
        result.failed += len(found.failures) + found.unsent + found.unavailable
        result.violations += found.failures[:3]
        await made.settle(result, restarts=result.rounds)
        (await asyncio.to_thread(judge, history, made.conninfo)).add_to(result)
    return result


@fault("SIGHUP reload under load", goal="no failed request of 50,000 in 20 reloads, on kept and on new connections")
async def reload(stage: Stage) -> Result:
    result, reloads, requests = Result(), stage.rounds(20, 1), stage.rounds(50_000, 0)
    async with bed(stage.folder) as made:
        # For a moment there are the old workers' connections and the new ones'.
        made.limit *= 2
        history = History()
        async with (
            load(made.web.port, made.users, history, clients=CLIENTS) as found,
            _newcomers(made.web.port, result) as count,
        ):
            await found.next_success(writes_only=True)
            while result.rounds < reloads or len(found.samples) + count() < requests:
                old, ready = set(made.processes), made.web.log.count(READY)
                made.web.process.send_signal(signal.SIGHUP)
                asked = monotonic()
                await _until(lambda ready=ready: made.web.log.count(READY) == ready + made.workers)  # type: ignore[misc]
                await _until(lambda old=old: not old & set(made.processes))  # type: ignore[misc]
                result.recoveries.append(monotonic() - asked)
                result.rounds += 1
                await asyncio.sleep(random.uniform(0, 1))
        result.figures["requests"] = f"{len(found.samples):,} on kept connections, {count():,} on new ones"
        slowest = max(sample.seconds for sample in found.samples)
        result.figures["slowest answer"] = f"{slowest * 1000:.0f} ms"
        await conclude(made, found, result, may_be_unavailable=False, restarts=result.rounds * made.workers)
    return result


@asynccontextmanager
async def _newcomers(port: int, result: Result, clients: int = 4) -> AsyncIterator[Callable[[], int]]:
    """Clients with a new connection for each request, none of which may fail."""
    answered, ending = 0, False

    async def use() -> None:
        nonlocal answered
        while not ending:
            client = Http(port)
            try:
                status = (await client.request("GET", "/api/v1/live")).status
            except (Unsent, Cut) as error:
                result.failed += 1
                result.expect(False, f"on a new connection: {error}")
            else:
                answered += 1
                result.expect(status == 200, f"on a new connection: {status}")
            client.close()
            await asyncio.sleep(0.002)

    crowd = [asyncio.create_task(use()) for _ in range(clients)]
    try:
        yield lambda: answered
    finally:
        ending = True
        await asyncio.gather(*crowd)


@fault(
    "SIGTERM under load with 100 silent sockets open",
    goal="in-flight requests finish, exit within 5 s, status 0, database closed properly",
)
async def stop(stage: Stage) -> Result:
    result, exits, later = Result(), list[float](), 0
    async with bed(stage.folder) as made:
        history = History()
        while True:
            before = len(history.operations)
            async with _silent(made.web.port), load(made.web.port, made.users, history, clients=CLIENTS) as found:
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0.2, 0.7))
                asked = monotonic()
                status = await asyncio.to_thread(made.web.stop)
                exits.append(monotonic() - asked)
            result.rounds += 1
            log = made.web.log
            result.expect(status == 0, f"the exit status is {status}")
            result.expect(log.count("Worker exiting") == made.workers, "a worker was killed")
            for bad in ("Forcing close", "Traceback", "CRITICAL"):
                result.expect(bad not in log, f"the log says {bad}")
            result.leaked += await settled(made.conninfo, 0)
            # What could not be sent has not failed, as there is no server any more. What was sent to a server that
            # was asked to stop more than a second before may find the connection closed.
            in_flight = sum(each.doubts > 0 for each in history.operations[before:] if each.invoked_at <= asked)
            later += found.cut - in_flight
            result.failed += in_flight + found.unavailable + len(found.failures)
            result.expect(not in_flight, f"{in_flight} requests in flight were cut")
            result.violations += found.failures[:3]
            if result.rounds == stage.rounds(20, 1):
                break
            await asyncio.to_thread(made.web.start)
            await asyncio.to_thread(made.web.wait_until_live)
        postgres = await asyncio.to_thread((made.postgres.folder / "log").read_text)
        result.expect("unexpected EOF" not in postgres, "PostgreSQL met the end of a connection unexpectedly")
        result.goal(max(exits) <= EXIT_LIMIT, f"an exit took {max(exits):.1f} s")
        result.figures["exit"] = f"after {max(exits):.1f} s at most"
        result.figures["cut, sent after the signal"] = str(later)
        (await asyncio.to_thread(judge, history, made.conninfo)).add_to(result)
        # Everything else at the end of the bed is for a server that runs.
        await asyncio.to_thread(made.web.start)
        await asyncio.to_thread(made.web.wait_until_live)
    return result


@asynccontextmanager
async def _silent(port: int) -> AsyncIterator[None]:
    """A hundred clients: half of them say nothing, the others half a request, or one, and then nothing."""
    slow = Slow()
    said = (b"", b"", LIVE[:20], LIVE)
    async with AsyncExitStack() as stack:
        for number in range(SILENT):
            task = asyncio.create_task(stay(port, said[number % 4], b"", slow))
            stack.callback(task.cancel)
        await _until(lambda: slow.open == SILENT)
        # They must be accepted, too.
        await asyncio.sleep(0.3)
        yield


async def _until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    async with asyncio.timeout(timeout):
        while True:
            try:
                if await asyncio.to_thread(condition):
                    return
            except psutil.NoSuchProcess:
                # It ended while it was looked at.
                pass
            await asyncio.sleep(0.01)
