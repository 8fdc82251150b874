"""PostgreSQL loses connections, crashes, is restarted, and freezes."""

import asyncio
import os
import random
import signal
from functools import partial
from itertools import cycle
from time import monotonic

from tests.faults.administrator import OURS, POLL, Administrator, wait_until_accepting
from tests.faults.environment import environment
from tests.faults.matrix import Result, Run, scenario
from tests.faults.report import quantile


@scenario("idle connections terminated", goal="no failed request in 1,000 kills")
async def idle_connections(run: Run, result: Result) -> None:
    async with environment(run, result) as env, env.administrator() as admin:
        async with env.load(may_be_unavailable=False) as found:
            await found.next_success()
            while result.rounds < run.rounds(1000, 100):
                result.rounds += await admin.terminate("state = 'idle'", 1)
                await asyncio.sleep(random.uniform(0, 0.05))
        result.figures["requests"] = f"{len(found.samples):,}"


@scenario("active connections terminated", goal="in 1,000 kills nothing acknowledged lost, nothing doubled")
async def active_connections(run: Run, result: Result) -> None:
    """Terminates connections that wait for a lock, any that are active, and those that wait in their COMMIT.

    A COMMIT waits for a standby that never answers. When its connection is terminated, the transaction is committed and
    the client gets no answer.
    """
    async with environment(run, result) as env, env.administrator() as admin, env.administrator() as locker:
        async with env.load() as found:
            await found.next_success()
            killed = dict.fromkeys(WAYS, 0)
            for way, kill in cycle(WAYS.items()):
                killed[way] += await kill(admin, locker)
                await asyncio.sleep(random.uniform(0, 0.02))
                if sum(killed.values()) >= run.rounds(1000, 60):
                    break
            await found.next_success(writes_only=True)
        result.rounds = sum(killed.values())
        result.figures |= {f"killed {way}": str(number) for way, number in killed.items()}
        unknown = sum(each.unknown_attempts for each in env.history.operations if each.is_write)
        result.figures["writes of unknown outcome"] = str(unknown)


async def _kill_locked(admin: Administrator, locker: Administrator) -> int:
    async with locker.transaction():
        await locker.execute(f"LOCK TABLE tasks IN {random.choice(('SHARE', 'ACCESS EXCLUSIVE'))} MODE")
        return await _kill(admin, "wait_event_type = 'Lock'")


async def _kill_active(admin: Administrator, locker: Administrator) -> int:
    return await _kill(admin, "state = 'active'")


async def _kill_committing(admin: Administrator, locker: Administrator) -> int:
    await admin.configure("synchronous_standby_names = 'missing'")
    try:
        return await _kill(admin, "wait_event = 'SyncRep'")
    finally:
        await admin.configure("RESET synchronous_standby_names")


async def _kill(admin: Administrator, condition: str) -> int:
    """Terminates a few connections that meet the condition, as soon as there are some."""
    for _ in range(200):
        if killed := await admin.terminate(condition, random.randint(1, 3)):
            return killed
        await asyncio.sleep(POLL)
    return 0


WAYS = {"in a lock": _kill_locked, "anywhere": _kill_active, "in COMMIT": _kill_committing}
"""Where connections are terminated; each is given two administrators, of whom one may hold a lock."""


@scenario(
    "a backend killed with -9",
    goal="in 1,000 kills nothing acknowledged lost, nothing doubled; 200s again within 250 ms of PostgreSQL accepting",
)
async def backend_killed(run: Run, result: Result) -> None:
    """PostgreSQL then terminates all other backends and recovers, because it does not trust the shared memory."""
    async with environment(run, result) as env, env.load() as found:
        for _ in range(run.rounds(1000, 4)):
            await found.next_success(writes_only=True)
            await asyncio.sleep(random.uniform(0, 0.3))
            async with env.administrator() as admin:
                one = f"SELECT pid FROM pg_stat_activity WHERE {OURS} ORDER BY state, random() LIMIT 1"
                [(pid,)] = await admin.query(one)
                os.kill(pid, signal.SIGKILL)
                result.rounds += 1
                await admin.wait_until_closed()
            await wait_until_accepting(env.conninfo)
            result.recoveries.append(await found.next_success())
    worst = quantile(result.recoveries, 0.99)
    result.goal(worst <= 0.25, f"200s came {worst * 1000:.0f} ms after PostgreSQL accepted connections")


@scenario(
    "PostgreSQL restarted fast, immediate, or killed with -9",
    goal="503 with Retry-After in under 100 ms while it is down; 200s within 500 ms (p99 1 s) after it is back",
)
async def restarts(run: Run, result: Result) -> None:
    refusals: list[float] = []
    async with environment(run, result) as env, env.load() as found:
        for _, way in zip(range(run.rounds(50, 3)), cycle(("fast", "immediate", "kill")), strict=False):
            await found.next_success(writes_only=True)
            await asyncio.sleep(random.uniform(0, 0.3))
            pg_ctl = partial(env.postgres._server._run, "pg_ctl", "stop", "-w", "-m", way)
            await asyncio.to_thread(env.postgres.kill if way == "kill" else pg_ctl)
            down = monotonic()
            await asyncio.sleep(random.uniform(0.2, 1.5))
            refusals += [each.seconds for each in found.refusals_since(down)]
            starting = asyncio.create_task(asyncio.to_thread(env.postgres.start))
            await wait_until_accepting(env.conninfo)
            result.recoveries.append(await found.next_success())
            await starting
            result.rounds += 1
    result.expect(bool(refusals), "no request was made while PostgreSQL was down")
    if refusals:
        usual, slow, slowest = (quantile(refusals, share) * 1000 for share in (0.5, 0.99, 1.0))
        result.figures["503 while down p50 / p99 / max"] = f"{usual:.1f} / {slow:.1f} / {slowest:.0f} ms"
        result.goal(slow < 100, f"a 503 took {slow:.0f} ms in the 99th percentile while PostgreSQL was down")
    for share, limit in ((0.5, 0.5), (0.99, 1.0)):
        took = quantile(result.recoveries, share)
        result.goal(took <= limit, f"200s came {took * 1000:.0f} ms after it was back, at the quantile {share:g}")


@scenario(
    "PostgreSQL frozen (SIGSTOP)",
    goal="503 at the request's deadline plus 250 ms at most; the live probe stays green; no connection is kept",
)
async def frozen(run: Run, result: Result) -> None:
    """A frozen PostgreSQL does not notice that a connection was closed.

    After the thaw it therefore has more connections for a moment than the web server, which counts only its own.
    """
    deadline, most = 1.0 if run.quick else 5.0, 0
    waits: list[float] = []
    async with environment(run, result, settings={"REQUEST_TIMEOUT": f"{deadline:g}"}) as env:
        async with env.load() as found, env.live_probes() as probes:
            for _ in range(run.rounds(10, 2)):
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0, 0.3))
                await asyncio.to_thread(env.postgres.freeze)
                frozen_at = monotonic()
                await asyncio.sleep(1.5 * deadline)
                await asyncio.to_thread(env.postgres.thaw)
                thawed_at = monotonic()
                result.recoveries.append(await found.next_success())
                waits += [each.seconds for each in found.refusals_since(frozen_at) if each.sent < thawed_at]
                result.rounds += 1
                await asyncio.sleep(1.0)
                most = max(most, env.watch.most)
                env.watch.reset()
            await asyncio.sleep(0.5)
        result.expect(bool(waits), "no request was made while PostgreSQL was frozen")
        beyond = (max(waits, default=0.0) - deadline) * 1000
        result.figures["slowest 503"] = f"{beyond:+.0f} ms from the deadline of {deadline:g} s"
        result.figures["most connections in the second after"] = f"{most} (the limit is {env.limit})"
        result.figures["slowest live probe"] = f"{max(probes) * 1000:.0f} ms"
        result.goal(beyond <= 250, f"a 503 took {beyond:.0f} ms longer than the deadline")
