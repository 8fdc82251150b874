"""Too few connections: a pool that is exhausted, a server that has none left, and PgBouncer in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from tests.faults.administrator import connected, order, terminate
from tests.faults.arrivals import Arrivals, Met
from tests.faults.bed import Bed, bed
from tests.faults.certificates import Authority
from tests.faults.clients import Load, load
from tests.faults.history import History, State
from tests.faults.matrix import Result, Stage, fault
from tests.faults.pgbouncer import PgBouncer
from tests.faults.report import quantile
from tests.faults.verdict import conclude
from tests.support.servers import eventually

# So the connections are what is scarce, and not the processors.
_SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.08); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION slow();
"""
TIMEOUT = 5.0
TOLERANCE = 0.25
"""Seconds that an answer may come after its request's deadline."""
GOODPUT = 0.9
"""Share of the peak that must be left under five times as many requests."""
RECOVERY = 1.0
MOST = 30
"""Connections that PostgreSQL has for others than its administrator, in the row that uses them up."""
ROLE = "app"
CALM = 5
"""How often in a row the product must have no connection, and others find none, until all are used up."""
WITHOUT_CONNECTIONS = 1.0
"""Seconds."""


@fault(
    "pool exhausted, 5 and 10 times overload",
    goal="a bounded p99 for accepted requests, 503 for the rest, goodput at 5 times overload at least 90 % of peak",
)
async def exhausted_pool(stage: Stage) -> Result:
    result, history = Result(), History()
    seconds = stage.rounds(10, 2)
    # One worker, as two would not get the same share of the clients, nor the same one all the time.
    async with bed(stage.folder, workers=1, pool_max=9) as made:
        async with connected(made.conninfo) as administrator:
            await order(administrator, _SLOW)
        arrivals = Arrivals(made.web.port, made.users, history, reads=False)
        # So all connections are open.
        await arrivals.closed_loop(4 * made.limit, 0.5)
        peak = (await arrivals.closed_loop(4 * made.limit, seconds)).goodput
        result.figures["peak"] = f"{peak:.0f}/s"
        for times in (1, 5, 10):
            met = await arrivals.open_loop(times * peak, seconds)
            _add(met, result, f"{times} times as many requests", peak if times == 5 else None)
        arrivals.close()
        await conclude(made, Load(history), result)
    return result


@fault(
    "processors busy, 5 and 10 times the clients",
    goal="a bounded p99, and goodput with 5 times the clients at least 90 % of peak",
)
async def busy_processors(stage: Stage) -> Result:
    result, history = Result(), History()
    seconds = stage.rounds(10, 2)
    async with bed(stage.folder, pool_max=5) as made:
        arrivals = Arrivals(made.web.port, made.users, history)
        await arrivals.closed_loop(2 * made.limit, 0.5)
        peak = (await arrivals.closed_loop(2 * made.limit, seconds)).goodput
        result.figures["peak"] = f"{peak:.0f}/s"
        for times in (5, 10):
            met = await arrivals.closed_loop(2 * times * made.limit, seconds)
            _add(met, result, f"{times} times the clients", peak if times == 5 else None)
        arrivals.close()
        await conclude(made, Load(history), result)
    return result


def _add(met: Met, result: Result, name: str, peak: float | None) -> None:
    """`peak` is given if it must be kept."""
    result.rounds += 1
    result.unavailable += len(met.refused)
    result.failed += met.others.total()
    result.expect(not met.others, f"with {name}: {dict(met.others)}")
    p99 = quantile(met.accepted, 0.99) if met.accepted else float("inf")
    late = max(met.refused, default=0.0)
    result.goal(p99 <= TIMEOUT, f"with {name} p99 is {p99:.1f} s")
    result.goal(late <= TIMEOUT + TOLERANCE, f"with {name} a 503 took {late:.2f} s")
    if peak is not None:
        result.goal(met.goodput >= GOODPUT * peak, f"with {name} goodput is {met.goodput / peak:.0%} of peak")
    refused = "no 503"
    if met.refused:
        refused = f"{len(met.refused):,} times 503, half of them within {quantile(met.refused, 0.5) * 1000:.0f} ms"
    result.figures[name] = f"{met.goodput:.0f}/s, p99 {p99 * 1000:.0f} ms, {refused}"


@fault("`max_connections` used up by others", goal="503s, and recovery within 1 s of release")
async def used_up(stage: Stage) -> Result:
    result, history = Result(), History()
    settings = (f"max_connections={MOST + 3}", "superuser_reserved_connections=3")
    async with bed(stage.folder, user=ROLE, postgres_settings=settings) as made:
        for _ in range(stage.rounds(20, 2)):
            result.rounds += 1
            async with load(made.web.port, made.users, history) as found:
                await asyncio.sleep(0.3)
                async with _hogs(made):
                    before = found.unavailable
                    await asyncio.sleep(WITHOUT_CONNECTIONS)
                    result.expect(found.unavailable > before, "no request met the lack of connections")
                recovery = await found.next_success()
                _recovered(result, recovery, "the connections were released")
            found.add_to(result)
        await conclude(made, Load(history), result)
    return result


@asynccontextmanager
async def _hogs(made: Bed) -> AsyncIterator[None]:
    """Others who have taken every connection, those of the product included."""
    conninfo = make_conninfo(made.conninfo, user=ROLE, application_name="hog")
    hogs: list[psycopg.AsyncConnection] = []
    refused, over = asyncio.Event(), asyncio.Event()

    async def take() -> None:
        while not over.is_set():
            try:
                hogs.append(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))
            except psycopg.OperationalError:
                refused.set()

    takers = [asyncio.create_task(take()) for _ in range(4)]
    try:
        # His connection counts as well, so it must not be closed before theirs are.
        async with connected(made.conninfo) as administrator:
            calm = 0
            while calm < CALM:
                # A connection that is being made shows itself a moment later.
                calm = 0 if await terminate(administrator) else calm + 1
                refused.clear()
                await refused.wait()
                await asyncio.sleep(0.02)
            over.set()
            await asyncio.gather(*takers)
            yield
            for hog in hogs:
                await hog.close()
    finally:
        over.set()
        await asyncio.gather(*takers)


@fault(
    "PgBouncer restarted and paused, a pool of 1, 100,000 transactions",
    goal="recovery within 1 s; no prepared-statement error",
)
async def behind_pgbouncer(stage: Stage) -> Result:
    result, transactions = Result(), 0
    certificate = await asyncio.to_thread(Authority(stage.folder, "authority").sign, "pgbouncer", "localhost")
    for pool_size in (4, 1):
        folder = stage.folder / f"pool-of-{pool_size}"
        folder.mkdir()
        history = History()
        async with bed(folder, via="pgbouncer", pool_size=pool_size, certificate=certificate) as made:
            assert made.pgbouncer
            wanted = stage.rounds(50_000, 1000)
            rounds = stage.rounds(10, 1)
            for _ in range(rounds):
                await _interrupt(made, history, result, made.pgbouncer, wanted // rounds)
            if not stage.quick:
                await _hold(made, history, result, made.pgbouncer)
            transactions += sum(operation.state is State.ACKNOWLEDGED for operation in history.operations)
            await conclude(made, Load(history), result)
            result.figures["transactions"] = f"{transactions:,}"
            result.expect("prepared statement" not in made.web.log, "a prepared-statement error in the log")
            result.expect(
                "prepared statement" not in made.pgbouncer.log, "a prepared-statement error in PgBouncer's log"
            )
    return result


async def _interrupt(made: Bed, history: History, result: Result, bouncer: PgBouncer, transactions: int) -> None:
    """Restarts and pauses it under load, and goes on until so many transactions went through it."""
    async with load(made.web.port, made.users, history, pause=0) as found:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(bouncer.restart)
        _recovered(result, await found.next_success(), "PgBouncer was restarted")
        await asyncio.to_thread(bouncer.pause)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(bouncer.resume)
        _recovered(result, await found.next_success(), "PgBouncer was resumed")
        result.rounds += 2
        await asyncio.to_thread(eventually, lambda: found.succeeded >= transactions, 600)
    found.add_to(result)


async def _hold(made: Bed, history: History, result: Result, bouncer: PgBouncer) -> None:
    """Pauses it for longer than a request may take."""
    async with load(made.web.port, made.users, history) as found:
        await found.next_success()
        await asyncio.to_thread(bouncer.pause)
        await asyncio.sleep(1.3 * TIMEOUT)
        await asyncio.to_thread(bouncer.resume)
        _recovered(result, await found.next_success(), "PgBouncer was resumed")
    result.rounds += 1
    found.add_to(result)
    late = max((sample.seconds for sample in found.samples if sample.status == 503), default=0.0)
    result.goal(late <= TIMEOUT + TOLERANCE, f"while PgBouncer was paused a 503 took {late:.2f} s")


def _recovered(result: Result, seconds: float, event: str) -> None:
    result.recoveries.append(seconds)
    result.goal(seconds <= RECOVERY, f"{seconds:.2f} s until a success after {event}")
