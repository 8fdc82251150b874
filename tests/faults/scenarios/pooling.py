"""Too few connections: an exhausted pool, a server without free connections, and PgBouncer in front of it."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from time import monotonic
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from tests.faults.certificates import Authority
from tests.faults.clients import Load
from tests.faults.environment import Environment, Service, environment
from tests.faults.history import Kind, State
from tests.faults.http import Http
from tests.faults.matrix import Result, Run, scenario
from tests.faults.pgbouncer import PgBouncer
from tests.faults.report import quantile
from tests.faults.waiting import until

# With this trigger the connections are scarce, and not the processors.
SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.08); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION slow();
"""
LEAD = 0.3
"""Seconds at the start that do not count, until responses come as fast as requests."""
TIMEOUT = 5.0
TOLERANCE = 0.25
"""Seconds that a response may come after the deadline of its request."""
GOODPUT = 0.9
"""Share of the peak that must remain under five times as many requests."""
ROLE = "app"
CALM = 5
"""Checks without a connection of the web server, one after the other, until all are used up."""


def goodput(load: Load, seconds: float) -> float:
    """Accepted requests a second that were answered in these seconds, `LEAD` excluded."""
    answered = (sample.sent + sample.seconds - load.started for sample in load.samples if sample.status < 300)
    return sum(LEAD <= moment < seconds for moment in answered) / (seconds - LEAD)


class Arrivals:
    """Sends creates, alternating with lists if there are to be reads, on as many connections as are needed.

    They are those of these users, or of all.
    """

    def __init__(self, env: Service, *, reads: bool = True, users: Sequence[UUID] = ()) -> None:
        self._env, self._reads, self._users = env, reads, users or env.users
        self._client = env.history.new_client()
        self._numbers = count()
        self._free: list[Http] = []

    def close(self) -> None:
        for http in self._free:
            http.close()

    async def open_loop(self, rate: float, seconds: float) -> Load:
        """Sends so many requests a second at random moments, without waiting for responses."""
        load, due = Load(self._env.history), monotonic()
        end = due + seconds
        async with asyncio.TaskGroup() as group:
            while monotonic() < end:
                group.create_task(self._send(load))
                due += random.expovariate(rate)
                await asyncio.sleep(max(0.0, due - monotonic()))
        return load

    async def closed_loop(self, clients: int, seconds: float) -> Load:
        """Runs so many clients, each of which sends its next request after the last response."""
        load, end = Load(self._env.history), monotonic() + seconds

        async def work() -> None:
            while monotonic() < end:
                await self._send(load)

        await asyncio.gather(*(work() for _ in range(clients)))
        return load

    async def _send(self, load: Load) -> None:
        number, users = next(self._numbers), self._users
        is_read = self._reads and number // len(users) % 2
        kind: Kind = "list" if is_read else "create"
        key = None if is_read else uuid4().hex
        operation = load.history.invoke(self._client, users[number % len(users)], kind, key=key)
        http = self._free.pop() if self._free else Http(self._env.web.port)
        load.count(operation, await load.history.send(http, operation))
        self._free.append(http)


@scenario(
    "pool exhausted, 5 and 10 times overload",
    goal="a bounded p99 for accepted requests, 503 for the rest, goodput at 5 times overload at least 90 % of peak",
)
async def exhausted_pool(run: Run, result: Result) -> None:
    # With two workers, the clients would be shared out unevenly, and differently each time.
    async with environment(run, result, workers=1, pool_max=9) as env:
        async with env.administrator() as admin:
            await admin.execute(SLOW)
        arrivals, seconds = Arrivals(env, reads=False), run.rounds(10, 2)
        peak = await _measure_peak(result, arrivals, 4 * env.limit, seconds)
        for times in (1, 5, 10):
            found = await arrivals.open_loop(times * peak, seconds)
            _report(result, f"{times} times as many requests", found, goodput(found, seconds), peak)
        arrivals.close()


@scenario(
    "processors busy, 5 and 10 times the clients",
    goal="a bounded p99, and goodput with 5 times the clients at least 90 % of peak",
)
async def busy_processors(run: Run, result: Result) -> None:
    async with environment(run, result, pool_max=5) as env:
        arrivals, seconds = Arrivals(env), run.rounds(10, 2)
        peak = await _measure_peak(result, arrivals, 2 * env.limit, seconds)
        for times in (5, 10):
            found = await arrivals.closed_loop(2 * times * env.limit, seconds)
            _report(result, f"{times} times the clients", found, goodput(found, seconds), peak)
        arrivals.close()


async def _measure_peak(result: Result, arrivals: Arrivals, clients: int, seconds: float) -> float:
    """The goodput with so many clients, measured after all connections are open."""
    await arrivals.closed_loop(clients, 0.5)
    peak = goodput(await arrivals.closed_loop(clients, seconds), seconds)
    result.figures["peak"] = f"{peak:.0f}/s"
    return peak


def _report(result: Result, name: str, found: Load, measured: float, peak: float) -> None:
    result.rounds += 1
    found.add_to(result)
    accepted, refused = ([each.seconds for each in found.samples if each.status // 100 == digit] for digit in (2, 5))
    p99 = quantile(accepted, 0.99) if accepted else float("inf")
    late = max(refused, default=0.0)
    result.goal(p99 <= TIMEOUT, f"with {name} p99 is {p99:.1f} s")
    result.goal(late <= TIMEOUT + TOLERANCE, f"with {name} a 503 took {late:.2f} s")
    is_kept = not name.startswith("5 ") or measured >= GOODPUT * peak
    result.goal(is_kept, f"with {name} goodput is {measured / peak:.0%} of peak")
    rest = "no 503"
    if refused:
        rest = f"{len(refused):,} times 503, half of them within {quantile(refused, 0.5) * 1000:.0f} ms"
    result.figures[name] = f"{measured:.0f}/s, p99 {p99 * 1000:.0f} ms, {rest}"


@scenario("`max_connections` used up by others", goal="503s, and recovery within 1 s of release")
async def used_up(run: Run, result: Result) -> None:
    settings = ("max_connections=33", "superuser_reserved_connections=3")
    async with environment(run, result, role=ROLE, postgres_settings=settings) as env:
        for _ in range(run.rounds(20, 2)):
            result.rounds += 1
            async with env.load() as found:
                await asyncio.sleep(0.3)
                async with _all_connections(env):
                    before = found.unavailable
                    await asyncio.sleep(1.0)
                    result.expect(found.unavailable > before, "no request met the lack of connections")
                await _recover(result, found, "the connections were released")


@asynccontextmanager
async def _all_connections(env: Environment) -> AsyncIterator[None]:
    """Takes every connection of PostgreSQL, including those of the web server."""
    conninfo = make_conninfo(env.conninfo, user=ROLE, application_name="taker")
    taken: list[psycopg.AsyncConnection] = []
    refused, is_over = asyncio.Event(), asyncio.Event()

    async def take() -> None:
        while not is_over.is_set():
            try:
                taken.append(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
            except psycopg.OperationalError:
                refused.set()

    takers = [asyncio.create_task(take()) for _ in range(4)]
    try:
        # The administrator's connection counts as well, so it stays open until the others are closed.
        async with env.administrator() as admin:
            calm = 0
            while calm < CALM:
                # A connection that is being opened is visible a moment later.
                calm = 0 if await admin.terminate() else calm + 1
                refused.clear()
                await refused.wait()
                await asyncio.sleep(0.02)
            is_over.set()
            await asyncio.gather(*takers)
            yield
            for connection in taken:
                await connection.close()
    finally:
        is_over.set()
        await asyncio.gather(*takers)


@scenario(
    "PgBouncer restarted and paused, a pool of 1, 100,000 transactions",
    goal="recovery within 1 s; no prepared-statement error",
)
async def behind_pgbouncer(run: Run, result: Result) -> None:
    transactions, rounds, wanted = 0, run.rounds(10, 1), run.rounds(50_000, 1000)
    certificate = await asyncio.to_thread(Authority(run.folder, "authority").sign, "pgbouncer", "localhost")
    for size in (4, 1):
        async with environment(
            run, result, name=f"pool-of-{size}", via="pgbouncer", pool_size=size, certificate=certificate
        ) as env:
            assert env.bouncer
            for _ in range(rounds):
                await _interrupt(env, env.bouncer, wanted // rounds)
            if not run.quick:
                await _pause_for_long(env, env.bouncer)
            transactions += sum(operation.state is State.ACKNOWLEDGED for operation in env.history.operations)
            env.expect_log_without("prepared statement")
            result.expect("prepared statement" not in env.bouncer.log, "a prepared-statement error in PgBouncer's log")
    result.figures["transactions"] = f"{transactions:,}"


async def _interrupt(env: Environment, bouncer: PgBouncer, transactions: int) -> None:
    """Restarts and pauses PgBouncer under load, and goes on until so many transactions went through it."""
    async with env.load(pause=0) as found:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(bouncer.restart)
        await _recover(env.result, found, "PgBouncer was restarted")
        await asyncio.to_thread(bouncer.pause)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(bouncer.resume)
        await _recover(env.result, found, "PgBouncer was resumed")
        env.result.rounds += 2
        await until(lambda: found.succeeded >= transactions, 600)


async def _pause_for_long(env: Environment, bouncer: PgBouncer) -> None:
    """Pauses PgBouncer for longer than a request may take."""
    async with env.load() as found:
        await found.next_success()
        await asyncio.to_thread(bouncer.pause)
        await asyncio.sleep(1.3 * TIMEOUT)
        await asyncio.to_thread(bouncer.resume)
        await _recover(env.result, found, "PgBouncer was resumed")
    env.result.rounds += 1
    late = max((sample.seconds for sample in found.refusals_since(0)), default=0.0)
    env.result.goal(late <= TIMEOUT + TOLERANCE, f"while PgBouncer was paused a 503 took {late:.2f} s")


async def _recover(result: Result, found: Load, event: str) -> None:
    seconds = await found.next_success()
    result.recoveries.append(seconds)
    result.goal(seconds <= 1, f"{seconds:.2f} s until a success after {event}")
