"""Many writers, and readers that keep a copy by the feed, while everything breaks: nothing may be missed."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import cycle

from psycopg.conninfo import conninfo_to_dict

from persistence.postgres.dsn import Dsn
from tests.faults.administrator import wait_until_accepting
from tests.faults.environment import READY, Environment, Service, environment
from tests.faults.matrix import Result, Run, scenario
from tests.faults.proxy import Proxy
from tests.faults.scenarios.postgres import WAYS
from tests.faults.spread import Spread, spread
from tests.faults.waiting import until
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, url_of
from tests.sync.commits import SETTINGS, Commits, SpreadCommits
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

type Fault = Callable[[], Awaitable[None]]


@scenario("20 writers, 4 readers of the feed, purge; cuts, kills, restarts, delays", goal=GOAL)
async def feed(run: Run, result: Result) -> None:
    async with environment(run, result, via="proxy", postgres_settings=SETTINGS) as env:
        faults: dict[str, Fault] = {
            "worker killed": partial(_kill_worker, env),
            "PostgreSQL restarted": partial(_restart_postgres, env),
            "server restarted": partial(_restart_server, env),
            "delay": partial(_delay, env),
            **{f"connections terminated {way}": partial(_terminate, env, way) for way in WAYS},
        }
        await _check(run, env, await asyncio.to_thread(Commits, env.conninfo), faults, WRITES, env.proxy)


@scenario("20 writers, 4 readers of the feed, purge; behind PgBouncer", goal=GOAL.replace("100,000", "20,000"))
async def pooled_feed(run: Run, result: Result) -> None:
    async with environment(run, result, via="pgbouncer", postgres_settings=SETTINGS) as env:
        faults: dict[str, Fault] = {
            "worker killed": partial(_kill_worker, env),
            "PostgreSQL restarted": partial(_restart_postgres, env),
            "PgBouncer restarted": partial(_restart_bouncer, env),
            "PgBouncer paused": partial(_pause_bouncer, env),
        }
        await _check(run, env, await asyncio.to_thread(Commits, env.conninfo), faults, WRITES // 5)


@scenario(
    "20 writers, 4 readers of the feed, purge; while shards of Citus move", goal=GOAL.replace("100,000", "10,000")
)
async def spread_feed(run: Run, result: Result) -> None:
    """Shards move all the time, one after the other."""
    async with spread(run, result) as env:
        commits = await asyncio.to_thread(SpreadCommits, [node.dsn.conninfo for node in env.nodes])
        try:
            faults: dict[str, Fault] = {
                "worker killed": partial(_kill_worker, env),
                "server restarted": partial(_restart_server, env),
            }
            await _check(run, env, commits, faults, WRITES // 10, beside=partial(_move, env, commits))
        finally:
            await asyncio.to_thread(commits.close)


async def _check(
    run: Run,
    env: Service,
    commits: Commits | SpreadCommits,
    faults: Mapping[str, Fault],
    writes: int,
    back: Proxy | None = None,
    beside: Callable[[Crowd, asyncio.Event], Coroutine[None, None, None]] | None = None,
) -> None:
    """Makes faults until so many writes are acknowledged. `back` is in front of the database, `beside` runs as well."""
    with ExitStack() as stack:
        front, ending = stack.enter_context(Proxy(env.web.port)), asyncio.Event()
        async with crowd(front.port, env.users[:OWNERS], Cuts(front, back)) as found, asyncio.TaskGroup() as group:
            purging = group.create_task(_purge(env, found))
            if beside:
                group.create_task(beside(found, ending))
            for name in cycle(random.sample([*faults], len(faults))):
                await found.pass_on(random.randint(1, run.rounds(BETWEEN, FEW_BETWEEN)))
                if found.log.acknowledged >= writes or (run.quick and found.faults[name]):
                    break
                await faults[name]()
                found.faults[name] += 1
            ending.set()
            purging.cancel()
        findings = await asyncio.to_thread(found.check, commits, env.conninfo)
    found.report(findings, env.result)
    env.result.goal(
        run.quick or any(reader.gone for reader in found.readers), "no reader had a cursor from before the horizon"
    )


async def _move(env: Spread, commits: SpreadCommits, found: Crowd, ending: asyncio.Event) -> None:
    async with env.administrator() as admin:
        while not ending.is_set():
            move = await env.move(admin, env.users[:OWNERS])
            await asyncio.to_thread(commits.follow, move.source, move.target)
            found.faults["shard moved"] += 1


async def _kill_worker(env: Service) -> None:
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


async def _restart_server(env: Service) -> None:
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


async def _purge(env: Service, found: Crowd) -> None:
    """Purges again and again; every third purge is killed after a while."""
    url = url_of(Dsn({name: str(value) for name, value in conninfo_to_dict(env.conninfo).items()}))
    variables = clean_environment() | {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url}
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
