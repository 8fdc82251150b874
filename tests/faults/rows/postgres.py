"""PostgreSQL loses connections, crashes, is restarted, and stands still."""

import asyncio
import os
import random
import signal
from itertools import cycle
from time import monotonic

from tests.faults.administrator import (
    OURS,
    POLL,
    Connection,
    accepting,
    ask,
    configure,
    connected,
    gone,
    order,
    terminate,
)
from tests.faults.bed import Bed, bed
from tests.faults.clients import Load, Sample, load
from tests.faults.history import History
from tests.faults.http import Http
from tests.faults.matrix import Result, Stage, fault
from tests.faults.report import quantile
from tests.faults.verdict import conclude


@fault("idle connections terminated", goal="no failed request in 1,000 kills")
async def idle_connections(stage: Stage) -> Result:
    result = Result()
    async with bed(stage.folder) as made, connected(made.conninfo) as administrator:
        async with load(made.web.port, made.users, History()) as found:
            await found.next_success()
            while result.rounds < stage.rounds(1000, 100):
                result.rounds += await terminate(administrator, "state = 'idle'", 1)
                await asyncio.sleep(random.uniform(0, 0.05))
        result.figures["requests"] = f"{len(found.samples):,}"
        await conclude(made, found, result, may_be_unavailable=False)
    return result


@fault(
    "active connections terminated",
    goal="in 1,000 kills nothing acknowledged lost, nothing doubled",
)
async def active_connections(stage: Stage) -> Result:
    """In turns while they wait for a lock, whatever they are doing, and while they wait in their COMMIT.

    In the last of these the transaction is committed, and the client is told nothing. It is a standby that never
    answers for which it waits.
    """
    result = Result()
    async with (
        bed(stage.folder) as made,
        connected(made.conninfo) as administrator,
        connected(made.conninfo) as locker,
    ):
        async with load(made.web.port, made.users, History()) as found:
            await found.next_success()
            ways = {"in a lock": _kill_locked, "anywhere": _kill_active, "in COMMIT": _kill_committing}
            killed = dict.fromkeys(ways, 0)
            for way, kill in cycle(ways.items()):
                killed[way] += await kill(administrator, locker)
                await asyncio.sleep(random.uniform(0, 0.02))
                if sum(killed.values()) >= stage.rounds(1000, 60):
                    break
            await found.next_success(writes_only=True)
        result.rounds = sum(killed.values())
        result.figures |= {f"killed {way}": str(number) for way, number in killed.items()}
        result.figures["writes of unknown outcome"] = str(sum(o.doubts for o in found.history.operations if o.is_write))
        await conclude(made, found, result)
    return result


async def _kill_locked(administrator: Connection, locker: Connection) -> int:
    async with locker.transaction():
        await order(locker, f"LOCK TABLE tasks IN {random.choice(('SHARE', 'ACCESS EXCLUSIVE'))} MODE")
        return await _kill(administrator, "wait_event_type = 'Lock'")


async def _kill_active(administrator: Connection, locker: Connection) -> int:
    return await _kill(administrator, "state = 'active'")


async def _kill_committing(administrator: Connection, locker: Connection) -> int:
    await configure(administrator, "synchronous_standby_names = 'nobody'")
    try:
        return await _kill(administrator, "wait_event = 'SyncRep'")
    finally:
        await configure(administrator, "RESET synchronous_standby_names")


async def _kill(administrator: Connection, condition: str) -> int:
    """Ends a few that meet the condition, as soon as there are some."""
    for _ in range(200):
        if killed := await terminate(administrator, condition, random.randint(1, 3)):
            return killed
        await asyncio.sleep(POLL)
    return 0


@fault(
    "a backend killed with -9",
    goal="in 1,000 kills nothing acknowledged lost, nothing doubled; 200s again within 250 ms of PostgreSQL accepting",
)
async def backend_killed(stage: Stage) -> Result:
    """PostgreSQL then ends all others and recovers, as it does not trust what they share."""
    result = Result()
    async with bed(stage.folder) as made:
        async with load(made.web.port, made.users, History()) as found:
            for _ in range(stage.rounds(1000, 4)):
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0, 0.3))
                async with connected(made.conninfo) as administrator:
                    [(pid,)] = await ask(
                        administrator, f"SELECT pid FROM pg_stat_activity WHERE {OURS} ORDER BY state, random() LIMIT 1"
                    )
                    os.kill(pid, signal.SIGKILL)
                    result.rounds += 1
                    await gone(administrator)
                await accepting(made.conninfo)
                result.recoveries.append(await found.next_success())
        worst = quantile(result.recoveries, 0.99)
        result.goal(worst <= 0.25, f"200s came {worst * 1000:.0f} ms after PostgreSQL accepted connections")
        await conclude(made, found, result)
    return result


@fault(
    "PostgreSQL restarted fast, immediate, or killed with -9",
    goal="503 with Retry-After in under 100 ms while it is down; 200s within 500 ms (p99 1 s) after it is back",
)
async def restarts(stage: Stage) -> Result:
    result = Result()
    refusals: list[float] = []
    async with bed(stage.folder) as made:
        async with load(made.web.port, made.users, History()) as found:
            for _, way in zip(range(stage.rounds(50, 3)), cycle(("fast", "immediate", "kill")), strict=False):
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0, 0.3))
                await asyncio.to_thread(_end, made, way)
                down = monotonic()
                await asyncio.sleep(random.uniform(0.2, 1.5))
                refusals += [each.seconds for each in _unavailable_since(found, down)]
                starting = asyncio.create_task(asyncio.to_thread(made.postgres.start))
                await accepting(made.conninfo)
                result.recoveries.append(await found.next_success())
                await starting
                result.rounds += 1
        _report_refusals(result, refusals)
        usual, worst = (quantile(result.recoveries, share) for share in (0.5, 0.99))
        result.goal(usual <= 0.5, f"200s came {usual * 1000:.0f} ms after it was back, in the median")
        result.goal(worst <= 1.0, f"200s came {worst * 1000:.0f} ms after it was back, in the 99th percentile")
        await conclude(made, found, result)
    return result


def _end(made: Bed, way: str) -> None:
    if way == "kill":
        made.postgres.kill()
    else:
        made.postgres._server._run("pg_ctl", "stop", "-w", "-m", way)


def _unavailable_since(found: Load, moment: float) -> list[Sample]:
    """The 503s to requests that were sent since then."""
    return [sample for sample in found.samples if sample.sent >= moment and sample.status == 503]


def _report_refusals(result: Result, refusals: list[float]) -> None:
    result.expect(bool(refusals), "no request was made while PostgreSQL was down")
    if refusals:
        usual, slow, slowest = (quantile(refusals, share) * 1000 for share in (0.5, 0.99, 1.0))
        result.figures["503 while down p50 / p99 / max"] = f"{usual:.1f} / {slow:.1f} / {slowest:.0f} ms"
        result.goal(slow < 100, f"a 503 took {slow:.0f} ms in the 99th percentile while PostgreSQL was down")


@fault(
    "PostgreSQL frozen (SIGSTOP)",
    goal="503 at the request's deadline plus 250 ms at most; the live probe stays green; no connection is kept",
)
async def frozen(stage: Stage) -> Result:
    """It cannot see that a connection was closed, nor be told to close it, until it is thawed.

    So for a moment after that it has more connections than the server, which counts only its own.
    """
    result = Result()
    deadline = 1.0 if stage.quick else 5.0
    waits: list[float] = []
    probes: list[float] = []
    most = 0
    async with bed(stage.folder, REQUEST_TIMEOUT=f"{deadline:g}") as made:
        async with load(made.web.port, made.users, History()) as found:
            for _ in range(stage.rounds(10, 2)):
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0, 0.3))
                await asyncio.to_thread(made.postgres.freeze)
                frozen_at = monotonic()
                while monotonic() < frozen_at + 1.5 * deadline:
                    probes.append(await _probe(made, result))
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(made.postgres.thaw)
                thawed_at = monotonic()
                result.recoveries.append(await found.next_success())
                waits += [each.seconds for each in _unavailable_since(found, frozen_at) if each.sent < thawed_at]
                result.rounds += 1
                await asyncio.sleep(1.0)
                most = max(most, made.watch.most)
                made.watch.forget()
            await asyncio.sleep(0.5)
        result.expect(bool(waits), "no request was made while PostgreSQL was frozen")
        beyond = (max(waits, default=0.0) - deadline) * 1000
        result.figures["slowest 503"] = f"{beyond:+.0f} ms from the deadline of {deadline:g} s"
        result.figures["most connections in the second after"] = f"{most} (the limit is {made.limit})"
        result.figures["slowest live probe"] = f"{max(probes) * 1000:.0f} ms"
        result.goal(beyond <= 250, f"a 503 took {beyond:.0f} ms longer than the deadline")
        await conclude(made, found, result)
    return result


async def _probe(made: Bed, result: Result) -> float:
    """A load balancer asks on a connection of its own, and does not wait for ever."""
    http = Http(made.web.port, timeout=2.0)
    started = monotonic()
    try:
        answer = await http.request("GET", "/api/v1/live")
        result.expect(answer.status == 200, f"the live probe got {answer.status}")
    except OSError as error:
        result.expect(False, f"the live probe got no answer: {error}")
    finally:
        http.close()
    return monotonic() - started
