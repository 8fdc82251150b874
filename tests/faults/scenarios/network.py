"""The network between the web server and its database: stalled, cut at the worst moments, or slow to connect."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from operator import attrgetter
from time import monotonic
from uuid import UUID, uuid4

from tests.faults.connections import check_settled
from tests.faults.environment import Environment, environment
from tests.faults.history import State
from tests.faults.http import Answer, Http
from tests.faults.matrix import Result, Run, scenario
from tests.faults.proxy import Cut, Direction, Proxy
from tests.faults.waiting import until

TOLERANCE = 0.25
"""Seconds that a response may come after the deadline of its request."""
IDLE = 0.8
"""Seconds after which the pool checks an idle connection before it checks it out."""
CUT_CLIENTS = 8
LOST_ELSEWHERE = ("08006", "57P01")
DISTANCES = (0, 0.005, 0.05, 0.2)
"""Seconds to the database, each way."""
LOCKED = 15.0
"""Seconds."""
AWAKE_WITHIN = 4.0
"""Seconds that a connect may take without a request failing for it."""
STALLS: dict[str, tuple[Direction, ...]] = {"connect": (), "check": (), "query": ("requests",), "reply": ("replies",)}


@scenario(
    "network stalled in connect, check, query and reply",
    goal="503 at the deadline plus 250 ms at most, the live probe stays green, no connection stays checked out",
)
async def stalled(run: Run, result: Result) -> None:
    timeout, connect_timeout = (1.5, 2) if run.quick else (5.0, 5)
    limits = {"REQUEST_TIMEOUT": str(timeout), "DATABASE_CONNECT_TIMEOUT": str(connect_timeout)}
    latest = dict.fromkeys(STALLS, 0.0)
    async with environment(run, result, via="proxy", settings=limits) as env, env.live_probes() as probes:
        # A stall is long enough for attempts to connect to time out in it as well.
        seconds = 1.2 * max(timeout, connect_timeout)
        for _ in range(run.rounds(5, 1)):
            for place in STALLS:
                latest[place] = max(latest[place], await _stall(env, place, seconds) - timeout)
    result.figures["slowest live probe"] = f"{max(probes) * 1000:.0f} ms"
    result.goal(max(probes) <= 0.25, f"the live probe took {max(probes):.2f} s")
    for place, late in latest.items():
        result.figures[f"503 after the deadline, {place}"] = f"{late * 1000:.0f} ms"
        result.goal(late <= TOLERANCE, f"stalled in the {place}: 503 came {late:.2f} s after the deadline")


async def _stall(env: Environment, place: str, seconds: float) -> float:
    """Stalls the network for so long, and returns the seconds of the slowest 503."""
    result = env.result
    result.rounds += 1
    if place == "check":
        async with env.load(retry=False):
            await asyncio.sleep(IDLE / 4)
        await asyncio.sleep(IDLE)
        _stall_in(place, env.proxy)
    began = monotonic()
    async with env.load(retry=False) as found:
        if place != "check":
            # The connections are in use at the stall, and so they are not checked before they are checked out.
            await asyncio.sleep(IDLE / 4)
            _stall_in(place, env.proxy)
        await asyncio.sleep(seconds)
        env.proxy.resume()
        result.recoveries.append(await found.next_success())
    refused = [sample.seconds for sample in found.refusals_since(began)]
    result.expect(bool(refused), f"no request met the stall in the {place}")
    await check_settled(result, env.conninfo, env.limit)
    return max(refused, default=0.0)


def _stall_in(place: str, proxy: Proxy) -> None:
    if place == "connect":
        proxy.stall_connects()
        proxy.cut_all()
    else:
        proxy.stall(*STALLS[place])


@scenario(
    "connection cut just before and just after the statement reached the server",
    goal="a retry with the same key returns the one task: 0 lost, 0 doubled, in 1,000 cuts of each kind",
)
async def cut(run: Run, result: Result) -> None:
    async with environment(run, result, via="proxy") as env:
        for when in ("before", "after"):
            await _create_all(
                env, f"cut {when}", run.rounds(1000, 50), partial(env.proxy.cut_when, before=when == "before")
            )


@scenario(
    "a pooler or a coordinator reports the loss of a connection of its own",
    goal="503 outcome-unknown, though the client's connection goes on; not run again: 0 lost, 0 doubled",
)
async def falsified(run: Run, result: Result) -> None:
    async with environment(run, result, via="proxy") as env:
        for state in LOST_ELSEWHERE:
            answers = await _create_all(
                env, f"SQLSTATE {state}", run.rounds(1000, 30), partial(env.proxy.falsify, sqlstate=state)
            )
            result.expect(set(answers) == {"503 outcome-unknown"}, f"after {state}: {dict(answers)}")


async def _create_all(env: Environment, fault: str, rounds: int, order: Callable[[bytes], Cut]) -> Counter[str]:
    """Creates so many tasks, each with the fault at its first attempt, and counts the first answers."""
    numbers, first = iter(range(rounds)), Counter[str]()
    users = (env.users[number % len(env.users)] for number in range(CUT_CLIENTS))
    await asyncio.gather(*(_create(env, user, numbers, first, order) for user in users))
    answers = ", ".join(f"{number} times {answer}" for answer, number in first.most_common())
    env.result.figures[f"first answer, {fault}"] = answers
    return first


async def _create(
    env: Environment, user_id: UUID, numbers: Iterator[int], first: Counter[str], make_order: Callable[[bytes], Cut]
) -> None:
    """Creates tasks, and sends each again with its key until it succeeds. Counts the first response to each."""
    client, http, result = env.history.new_client(), Http(env.web.port), env.result
    for _ in numbers:
        operation = env.history.invoke(client, user_id, "create", key=uuid4().hex)
        order = make_order(operation.marker.encode())
        result.rounds += 1
        for attempt in count():
            answer = await env.history.send(http, operation)
            text, is_unavailable = "no answer", False
            if isinstance(answer, Answer):
                text = f"{answer.status} {answer.problem.rpartition(':')[2]}".strip()
                is_unavailable = answer.status == 503 and "retry-after" in answer.headers
            first.update([text] if attempt == 0 else [])
            if not order.before:
                # A retry that is faster than the first statement would make the task itself.
                await until(partial(attrgetter("is_answered"), order))
            if operation.state is State.ACKNOWLEDGED:
                break
            result.unavailable += is_unavailable
            result.failed += not is_unavailable
            await asyncio.sleep(0.01)
        result.expect(order.is_done, f"the fault did not happen: {operation}")
        # 201 means that the retry made the task, 200 that the first attempt did.
        result.expect(operation.status == (201 if order.before else 200), f"the retry succeeded otherwise: {operation}")
    http.close()


@scenario(
    "statements that nobody awaits, at a distance",
    goal="no more connections than the limit, at 0, 5, 50 and 200 ms each way; all of them back afterwards",
)
async def distance(run: Run, result: Result) -> None:
    """The table is locked for several deadlines, so that every statement is cut off by the server's own deadline."""
    for seconds in DISTANCES:
        ms = f"{seconds * 1000:.0f} ms"
        settings = {"REQUEST_TIMEOUT": "1"}
        async with (
            environment(run, result, name=f"distance-{ms[:-3]}", via="proxy", pool_max=4, settings=settings) as env,
            env.administrator() as locker,
        ):
            env.proxy.distance = seconds
            async with env.load(retry=False) as found:
                for _ in range(run.rounds(3, 1)):
                    async with locker.transaction():
                        await locker.execute("LOCK TABLE tasks")
                        await asyncio.sleep(LOCKED if not run.quick else LOCKED / 3)
                    result.rounds += 1
                    result.recoveries.append(await found.next_success(writes_only=True))
            env.proxy.distance = 0.0
            result.figures[f"connections, {ms} away"] = f"{env.watch.most} of {env.limit}"
            # The next round has an environment of its own.
            await env.conclude()


@scenario(
    "first connect delayed (a scaled-to-zero database that wakes)",
    goal="slower, not failed, up to 4 s; one storm of connections at most",
)
async def waking(run: Run, result: Result) -> None:
    async with environment(run, result, via="proxy") as env:
        for seconds in (0.5, 2.0) if run.quick else (0.5, 1.0, 2.0, 3.0, 4.0, 5.0):
            await _wake(env, seconds)


async def _wake(env: Environment, seconds: float) -> None:
    """Cuts all connections, and stalls new ones for so long, counted from the first."""
    env.proxy.stall("requests")
    env.proxy.cut_all()
    before, result = env.proxy.accepted, env.result
    result.rounds += 1
    async with env.load(retry=False) as found:
        await until(lambda: env.proxy.accepted > before)
        await asyncio.sleep(seconds)
        asleep = env.proxy.accepted - before
        env.proxy.resume()
        result.recoveries.append(await found.next_success())
        await asyncio.sleep(0.5)
    if seconds <= AWAKE_WITHIN:
        result.expect(not found.unavailable, f"{found.unavailable} requests failed in a wait of {seconds:g} s")
    awake = env.proxy.accepted - before - asleep
    for when, opened in (("asleep", asleep), ("awake", awake)):
        result.expect(opened <= env.limit, f"{opened} connections were opened while it was {when}")
    longest = max(sample.seconds for sample in found.samples)
    result.figures[f"awake after {seconds:g} s"] = (
        f"slowest answer {longest:.1f} s, {found.unavailable} times 503, {asleep} + {awake} connections opened"
    )
