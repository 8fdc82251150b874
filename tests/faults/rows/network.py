"""The network between the server and its database: stalled, cut in the worst moments, or leading to one who sleeps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from uuid import uuid4

from tests.faults.bed import Bed, bed
from tests.faults.clients import Load, load
from tests.faults.connections import settled
from tests.faults.history import History, Operation, State, did_nothing
from tests.faults.http import Cut, Http
from tests.faults.matrix import Result, Stage, fault
from tests.faults.proxy import Proxy
from tests.faults.verdict import conclude
from tests.support.servers import eventually

TOLERANCE = 0.25
"""Seconds that an answer may come after its request's deadline."""
LIVE_MAX = 0.25
"""Seconds for the live probe."""
REST = 0.8
"""Seconds after which the pool checks a connection before it lends it."""
CUT_CLIENTS = 8
BACK_OFF = 0.01
AWAKE_WITHIN = 4.0
"""Seconds that a connect may take without a request failing for it."""
STALLS = ("connect", "check", "query", "reply")


@fault(
    "network stalled in connect, check, query and reply",
    goal="503 at the deadline plus 250 ms at most, the live probe stays green, no connection stays checked out",
)
async def stalled(stage: Stage) -> Result:
    result, history = Result(), History()
    latest = dict.fromkeys(STALLS, 0.0)
    timeout, connect_timeout = (1.5, 2) if stage.quick else (5.0, 5)
    async with bed(
        stage.folder, via="proxy", REQUEST_TIMEOUT=str(timeout), DATABASE_CONNECT_TIMEOUT=str(connect_timeout)
    ) as made:
        async with _watching_the_live_probe(made, result):
            # So that attempts to connect end in it as well.
            seconds = 1.2 * max(timeout, connect_timeout)
            for _ in range(stage.rounds(5, 1)):
                for place in STALLS:
                    slowest = await _stall(made, history, result, place, seconds)
                    latest[place] = max(latest[place], slowest - timeout)
        for place, late in latest.items():
            result.figures[f"503 after the deadline, {place}"] = f"{late * 1000:.0f} ms"
            result.goal(late <= TOLERANCE, f"stalled in the {place}: 503 came {late:.2f} s after the deadline")
        await conclude(made, Load(history), result)
    return result


async def _stall(made: Bed, history: History, result: Result, place: str, seconds: float) -> float:
    """Stalls it for so long, and returns how long the slowest 503 took."""
    proxy = _proxy_of(made)
    result.rounds += 1
    if place == "check":
        async with load(made.web.port, made.users, history, retry=False):
            await asyncio.sleep(REST / 4)
        await asyncio.sleep(REST)
        proxy.stall()
    async with load(made.web.port, made.users, history, retry=False) as found:
        if place != "check":
            # So the connections are in use when it happens, and are lent without a check.
            await asyncio.sleep(REST / 4)
            {"connect": _lose_the_way, "query": _stall_requests, "reply": _stall_replies}[place](proxy)
        await asyncio.sleep(seconds)
        proxy.resume()
        result.recoveries.append(await found.next_success())
    found.add_to(result)
    refused = [sample.seconds for sample in found.samples if sample.status == 503]
    result.expect(bool(refused), f"no request met the stall in the {place}")
    result.leaked += await settled(made.conninfo, made.limit)
    return max(refused, default=0.0)


def _lose_the_way(proxy: Proxy) -> None:
    proxy.stall_connects()
    proxy.cut_all()


def _stall_requests(proxy: Proxy) -> None:
    proxy.stall("requests")


def _stall_replies(proxy: Proxy) -> None:
    proxy.stall("replies")


@fault(
    "connection cut just before and just after the statement reached the server",
    goal="a retry with the same key returns the one task: 0 lost, 0 doubled, in 1,000 cuts of each kind",
)
async def cut(stage: Stage) -> Result:
    result, history = Result(), History()
    async with bed(stage.folder, via="proxy") as made:
        for before in (True, False):
            turns = iter(range(stage.rounds(1000, 50)))
            clients = [_Careful(made, history, result, number, before=before) for number in range(CUT_CLIENTS)]
            await asyncio.gather(*(client.work(turns) for client in clients))
            first = sum((client.first for client in clients), Counter())
            answers = ", ".join(f"{number} times {answer}" for answer, number in first.most_common())
            result.figures[f"first answer, cut {'before' if before else 'after'}"] = answers
        await conclude(made, Load(history), result)
    return result


class _Careful:
    """A client whose creates are all cut off once, and who sends each again with its key until it is answered."""

    def __init__(self, made: Bed, history: History, result: Result, number: int, *, before: bool) -> None:
        self.first: Counter[str] = Counter()
        """What he heard first of each create."""
        self._http = Http(made.web.port)
        self._proxy, self._history, self._result, self._before = _proxy_of(made), history, result, before
        self._client = history.new_client()
        self._user_id = made.users[number % len(made.users)]

    async def work(self, turns: Iterator[int]) -> None:
        for _ in turns:
            await self._create()
        self._http.close()

    async def _create(self) -> None:
        operation = self._history.invoke(self._client, self._user_id, "create", key=uuid4().hex)
        order = self._proxy.cut_when(operation.marker.encode(), before=self._before)
        self._result.rounds += 1
        for attempt in count():
            heard = await self._send(operation)
            if attempt == 0:
                self.first[heard] += 1
            if operation.state is State.ACKNOWLEDGED:
                break
            await asyncio.sleep(BACK_OFF)
        self._result.expect(order.made == 1, f"the connection was not cut: {operation}")
        self._proxy.forget(order)

    async def _send(self, operation: Operation) -> str:
        """Sends it and says what came back."""
        path, headers = f"/api/{operation.user_id}/tasks", {"Idempotency-Key": operation.key or ""}
        try:
            answer = await self._http.request("POST", path, dict(operation.body or {}), headers)
        except Cut:
            self._result.failed += 1
            self._history.doubt(operation, None)
            return "no answer"
        if answer.status < 300:
            self._history.acknowledge(operation, answer)
            return str(answer.status)
        if did_nothing(answer):
            self._history.refuse(operation, answer)
        else:
            self._history.doubt(operation, answer)
        if answer.status == 503 and "retry-after" in answer.headers:
            self._result.unavailable += 1
        else:
            self._result.failed += 1
        return f"{answer.status} {answer.problem.rpartition(':')[2]}"


@fault(
    "first connect delayed (a scaled-to-zero database that wakes)",
    goal="slower, not failed, up to 4 s; one storm of connections at most",
)
async def waking(stage: Stage) -> Result:
    result, history = Result(), History()
    async with bed(stage.folder, via="proxy") as made:
        for seconds in (0.5, 2.0) if stage.quick else (0.5, 1.0, 2.0, 3.0, 4.0, 5.0):
            await _wake(made, history, result, seconds)
        await conclude(made, Load(history), result)
    return result


async def _wake(made: Bed, history: History, result: Result, seconds: float) -> None:
    """Cuts the connections that rest, and lets new ones wait from the first of them on."""
    proxy = _proxy_of(made)
    proxy.stall("requests")
    proxy.cut_all()
    accepted = proxy.accepted
    result.rounds += 1
    async with load(made.web.port, made.users, history, retry=False) as found:
        await asyncio.to_thread(eventually, lambda: proxy.accepted > accepted)
        await asyncio.sleep(seconds)
        asleep = proxy.accepted - accepted
        proxy.resume()
        result.recoveries.append(await found.next_success())
        await asyncio.sleep(0.5)
    found.add_to(result)
    if seconds <= AWAKE_WITHIN:
        result.expect(not found.unavailable, f"{found.unavailable} requests failed in a wait of {seconds:g} s")
    awake = proxy.accepted - accepted - asleep
    for when, opened in (("asleep", asleep), ("awake", awake)):
        result.expect(opened <= made.limit, f"{opened} connections were opened while it was {when}")
    longest = max(sample.seconds for sample in found.samples)
    result.figures[f"awake after {seconds:g} s"] = (
        f"slowest answer {longest:.1f} s, {found.unavailable} times 503, {asleep} + {awake} connections opened"
    )


def _proxy_of(made: Bed) -> Proxy:
    assert made.proxy
    return made.proxy


@asynccontextmanager
async def _watching_the_live_probe(made: Bed, result: Result) -> AsyncIterator[None]:
    """Asks every worker all the time whether it lives."""
    probes = [asyncio.create_task(_probe(made.web.port, result)) for _ in range(2 * made.workers)]
    slowest = 0.0
    try:
        yield
    finally:
        for probe in probes:
            probe.cancel()
        for seconds in await asyncio.gather(*probes):
            slowest = max(slowest, seconds)
    result.goal(slowest <= LIVE_MAX, f"the live probe took {slowest:.2f} s")
    result.figures["slowest live probe"] = f"{slowest * 1000:.0f} ms"


async def _probe(port: int, result: Result) -> float:
    """The longest that an answer took, when this is cancelled."""
    http, slowest = Http(port), 0.0
    try:
        while True:
            answer = await http.request("GET", "/api/v1/live")
            result.expect(answer.status == 200, f"the live probe got {answer.status}")
            slowest = max(slowest, answer.seconds)
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return slowest
    finally:
        http.close()
