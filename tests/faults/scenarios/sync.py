"""Many writers, and readers that keep a copy by the feed, while everything breaks: nothing may be missed."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from typing import Literal

from tests.faults.administrator import wait_until_accepting
from tests.faults.environment import READY, Environment, environment
from tests.faults.matrix import Result, Run, scenario
from tests.faults.proxy import Proxy
from tests.faults.scenarios.postgres import WAYS
from tests.faults.waiting import until
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, url_of
from tests.sync.commits import SETTINGS, Commits
from tests.sync.crowd import OWNERS, Crowd, crowd
from tests.sync.cuts import Cuts

GOAL = "each copy is the state of the database: 0 missed, 0 lost, 0 doubled, 0 resurrected in 100,000 writes"
WRITES = 100_000
BETWEEN, FEW_BETWEEN = 2_000, 150
"""Most writes between two faults, and in the short form, which makes each fault once."""
PURGE_EVERY = 4.0
"""Seconds between two purges, about."""
DELAYS = (0.002, 0.01)
"""Seconds to the database, each way."""

type Fault = Callable[[Environment], Awaitable[None]]


@scenario("20 writers, 4 readers of the feed, purge; cuts, kills, restarts, delays", goal=GOAL)
async def feed(run: Run, result: Result) -> None:
    faults: dict[str, Fault] = {
        "worker killed": _kill_worker,
        "PostgreSQL restarted": _restart_postgres,
        "server restarted": _restart_server,
        "delay": _delay,
        **{f"connections terminated {way}": partial(_terminate, way=way) for way in WAYS},
    }
    await _check(run, result, "proxy", faults, WRITES)


@scenario("20 writers, 4 readers of the feed, purge; behind PgBouncer", goal=GOAL.replace("100,000", "20,000"))
async def pooled_feed(run: Run, result: Result) -> None:
    faults = {
        "worker killed": _kill_worker,
        "PostgreSQL restarted": _restart_postgres,
        "PgBouncer restarted": _restart_bouncer,
        "PgBouncer paused": _pause_bouncer,
    }
    await _check(run, result, "pgbouncer", faults, WRITES // 5)


async def _check(
    run: Run, result: Result, via: Literal["proxy", "pgbouncer"], faults: Mapping[str, Fault], writes: int
) -> None:
    async with environment(run, result, via=via, postgres_settings=SETTINGS) as env:
        commits = await asyncio.to_thread(Commits, env.conninfo)
        with ExitStack() as stack:
            front = stack.enter_context(Proxy(env.web.port))
            cuts = Cuts(front, env.proxy if via == "proxy" else None)
            async with crowd(front.port, env.users[:OWNERS], cuts) as found:
                purging = asyncio.create_task(_purge(env, found))
                for name in cycle(random.sample([*faults], len(faults))):
                    await found.pass_on(random.randint(1, run.rounds(BETWEEN, FEW_BETWEEN)))
                    if found.log.acknowledged >= writes or (run.quick and found.faults[name]):
                        break
                    await faults[name](env)
                    found.faults[name] += 1
                purging.cancel()
                await asyncio.gather(purging, return_exceptions=True)
            findings = await asyncio.to_thread(found.check, commits, env.conninfo)
        found.report(findings, result)
    result.goal(
        run.quick or any(reader.gone for reader in found.readers), "no reader had a cursor from before the horizon"
    )


async def _kill_worker(env: Environment) -> None:
    old, listening = set(env.processes), env.web.log.count(READY)
    env.restarts += 1
    random.choice([*old]).kill()
    await until(lambda: len(set(env.processes) - old) == 1 and env.web.log.count(READY) > listening)


async def _restart_postgres(env: Environment) -> None:
    stop = partial(env.postgres._server._run, "pg_ctl", "stop", "-w", "-m", random.choice(("fast", "immediate")))
    await asyncio.to_thread(stop)
    await asyncio.sleep(random.uniform(0, 0.5))
    await asyncio.to_thread(env.postgres.start)
    await wait_until_accepting(env.conninfo)


async def _terminate(env: Environment, way: str) -> None:
    async with env.administrator() as admin, env.administrator() as locker:
        await WAYS[way](admin, locker)


async def _restart_server(env: Environment) -> None:
    await asyncio.to_thread(env.web.stop)
    await asyncio.to_thread(env.web.start)
    await asyncio.to_thread(env.web.wait_until_live)
    env.restarts = 0


async def _delay(env: Environment) -> None:
    env.proxy.distance = random.uniform(*DELAYS)
    await asyncio.sleep(random.uniform(0.2, 1))
    env.proxy.distance = 0


async def _restart_bouncer(env: Environment) -> None:
    assert env.bouncer
    await asyncio.to_thread(env.bouncer.restart)


async def _pause_bouncer(env: Environment) -> None:
    assert env.bouncer
    await asyncio.to_thread(env.bouncer.pause)
    await asyncio.sleep(random.uniform(0, 0.5))
    await asyncio.to_thread(env.bouncer.resume)


async def _purge(env: Environment, found: Crowd) -> None:
    """Purges again and again; every third purge is killed after a while."""
    variables = clean_environment() | {
        "ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url_of(env.postgres.dsn),
    }  # fmt: skip
    while True:
        await asyncio.sleep(random.uniform(0, PURGE_EVERY))
        purge = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.sync.purge", cwd=ROOT, env=variables,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(random.choice((1.0, None, None))):
                await purge.wait()
        except TimeoutError:
            pass
        finally:
            if purge.returncode is None:
                purge.kill()
                await purge.wait()
        found.faults["purge" if purge.returncode == 0 else "purge killed or without a database"] += 1
