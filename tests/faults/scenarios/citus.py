"""A spread database: its workers and its coordinator fail, its shards move, and a node is added.

`CITUS_TEST_URL` names the cluster, whose processes are on this machine. The web server knows its coordinator only.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from time import monotonic
from uuid import UUID, uuid4

import psycopg

from tests.faults.administrator import administrator
from tests.faults.clients import Load
from tests.faults.history import Kind, Operation, State
from tests.faults.http import Answer, Cut, Http, Unsent
from tests.faults.matrix import Result, Run, scenario
from tests.faults.report import quantile
from tests.faults.scenarios.pooling import Arrivals
from tests.faults.spread import Spread, spread
from tests.support.citus import Node

WORKER, OTHER = 1, 2
"""The worker that fails, and the one that does not, by their places in `Spread.nodes`."""
RATE, MANY = 50, 100
"""Requests a second, and users, while a worker is frozen."""
SLOWER = 1.5
HEALTH = "/api/v1/health"
DEGRADED = "degraded (1 of 2 nodes)"
PROBE_EVERY = 0.25
REPEATS_MAX = 200
COMMITTING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()
    HAVING count(*) = {}
"""
COMMIT_TIMEOUT = 4.0
"""Seconds until all writes wait in their COMMIT, less than they may take."""


@scenario(
    "a worker of Citus killed with -9",
    goal="its users get 503, others no failed request; in 100 kills nothing acknowledged lost, nothing doubled; writes "
    "again within 500 ms of the worker accepting",
)
async def worker_killed(run: Run, result: Result) -> None:
    async with spread(run, result) as env:
        worker = env.nodes[WORKER]
        others = env.load(env.owners[OTHER], may_be_unavailable=False, clients=8)
        async with others as beside, env.load(env.owners[WORKER], clients=8) as found:
            outages = list[tuple[float, float]]()
            for _ in range(run.rounds(100, 3)):
                await found.next_success(writes_only=True)
                await asyncio.sleep(random.uniform(0.2, 0.5))
                down = monotonic()
                await asyncio.to_thread(worker.kill)
                await asyncio.sleep(random.uniform(0.2, 1.0))
                await asyncio.to_thread(worker.start)
                outages.append((down, monotonic()))
                result.recoveries.append(await found.next_success(writes_only=True))
                result.rounds += 1
        result.expect(found.unavailable > 0, "no request met the dead worker")
        _compare(result, beside, outages)
    slowest = quantile(result.recoveries, 0.99)
    result.goal(slowest <= 0.5, f"writes succeeded {slowest * 1000:.0f} ms after the worker accepted connections")


def _compare(result: Result, beside: Load, outages: Sequence[tuple[float, float]]) -> None:
    """Reports how long requests of others took during the outages, and otherwise."""
    during, otherwise = list[float](), list[float]()
    for sample in beside.samples:
        is_during = any(start <= sample.sent < end for start, end in outages)
        (during if is_during else otherwise).append(sample.seconds)
    texts = (f"{_ms(each, 0.5)} / {_ms(each, 0.99)}" for each in (otherwise, during))
    result.figures["others p50 / p99, before and during"] = ", ".join(texts)


def _ms(seconds: Sequence[float], share: float) -> str:
    return f"{quantile(seconds, share) * 1000:.1f} ms"


@scenario(
    "a worker of Citus frozen (SIGSTOP), 50 requests/s",
    goal="others: p50 within 1.5 times that before, no failed request; health 200 and `degraded`",
)
async def worker_frozen(run: Run, result: Result) -> None:
    """A process of the coordinator that is connected to a frozen worker ends no statement before the thaw.

    So there are more connections than the web server, which gives up its own, counts.
    """
    seconds, most = run.rounds(12, 6), 0
    before, during, health = list[float](), list[float](), Counter[str]()
    async with spread(run, result, users=MANY) as env:
        theirs, others = (Arrivals(env, users=env.owners[place]) for place in (WORKER, OTHER))

        async def both(seconds: float) -> tuple[Load, Load]:
            loads = await asyncio.gather(*(each.open_loop(RATE / 2, seconds) for each in (theirs, others)))
            for load, may_be_unavailable in zip(loads, (True, False), strict=True):
                load.add_to(result, may_be_unavailable=may_be_unavailable)
            return loads[0], loads[1]

        await both(5)
        async with _probes(env) as states:
            for _ in range(run.rounds(5, 1)):
                before += _seconds((await both(seconds))[1])
                states.clear()
                await asyncio.to_thread(env.nodes[WORKER].freeze)
                try:
                    frozen, beside = await both(seconds)
                finally:
                    await asyncio.to_thread(env.nodes[WORKER].thaw)
                thawed = monotonic()
                during += _seconds(beside)
                result.expect(frozen.unavailable > 0, "no request met the frozen worker")
                result.expect(states[DEGRADED] > 0, f"health was never degraded: {states}")
                health += states
                found, _ = await both(3)
                most = max(most, env.watch.most)
                env.watch.reset()
                result.recoveries.append(
                    min(each.sent + each.seconds for each in found.samples if each.status < 300) - thawed
                )
                result.rounds += 1
        for each in (theirs, others):
            each.close()
    times = quantile(during, 0.5) / quantile(before, 0.5)
    result.figures |= {
        "others p50 before and while frozen": f"{_ms(before, 0.5)}, {_ms(during, 0.5)} ({times:.2f} times)",
        "others p99 before and while frozen": f"{_ms(before, 0.99)}, {_ms(during, 0.99)}",
        "longest of others": _ms(during, 1.0),
        "health while frozen": ", ".join(f"{number} times {state}" for state, number in health.most_common()),
        "most connections at once": f"{most} (the limit is {env.limit})",
    }
    result.goal(times <= SLOWER, f"the p50 of others was {times:.2f} times that before")


def _seconds(load: Load) -> list[float]:
    return [sample.seconds for sample in load.samples]


@asynccontextmanager
async def _probes(env: Spread) -> AsyncIterator[Counter[str]]:
    """Asks for the health until the block ends, and yields the answers, which anybody may clear.

    Each must be 200.
    """
    states, slowest = Counter[str](), 0.0

    async def probe() -> None:
        nonlocal slowest
        http = Http(env.web.port)
        try:
            while True:
                answer = await http.request("GET", HEALTH)
                slowest = max(slowest, answer.seconds)
                env.result.failed += answer.status != 200
                env.result.expect(answer.status == 200, f"health got {answer.status}: {answer.body[:300]!r}")
                data = answer.json["data"]
                states[f"{data['database']} ({data['nodes']['answering']} of {data['nodes']['known']} nodes)"] += 1
                # Each worker of the web server has a view of its own.
                http.close()
                await asyncio.sleep(PROBE_EVERY)
        finally:
            http.close()

    probing = asyncio.create_task(probe())
    yield states
    probing.cancel()
    for end in await asyncio.gather(probing, return_exceptions=True):
        env.result.expect(isinstance(end, asyncio.CancelledError), f"health: {end!r}")
    env.result.figures["slowest answer of health"] = f"{slowest * 1000:.0f} ms"


@scenario(
    "a worker of Citus killed in a commit, before its answer",
    goal="503 outcome-unknown; a repeat with the same key finds the one change, or makes it: in 400 kills 0 lost, 0 "
    "doubled",
)
async def answer_lost(run: Run, result: Result) -> None:
    """A COMMIT waits for a standby that never answers: it is on the disk of the worker, and no answer is sent.

    Each user has one write under way. A change is committed then. A create is a two-phase commit in Citus, and has been
    prepared, so Citus undoes it later and it keeps the lock on its owner until then.
    """
    async with spread(run, result, users=16, pool_max=16) as env:
        # A worker of the web server has half of its pool for statements of one node, which may be all that are sent.
        worker, clients = env.nodes[WORKER], [_Keyed(env, user) for user in env.owners[WORKER]]
        for number in range(run.rounds(50, 4)):
            await asyncio.to_thread(worker.configure, "synchronous_standby_names", "missing")
            ours = asyncio.create_task(_commit_until_lost(worker))
            async with administrator(worker.dsn.conninfo) as admin:
                # The server takes the setting when it comes to it.
                await admin.wait_for_row(COMMITTING.format(1))
                sent = [asyncio.create_task(client.begin(is_create=number % 2 == 0)) for client in clients]
                are_committing = await admin.wait_for_row(COMMITTING.format(1 + len(sent)), COMMIT_TIMEOUT)
                result.expect(are_committing, "not all writes came to their COMMIT")
            await asyncio.to_thread(worker.kill)
            await asyncio.gather(ours, *sent)
            await asyncio.to_thread(worker.start)
            await asyncio.to_thread(worker.reset)
            result.rounds += len(sent)
            accepting = monotonic()
            await asyncio.gather(*(client.repeat() for client in clients))
            result.recoveries.append(monotonic() - accepting)
        for client in clients:
            client.http.close()
    for kind in ("create", "patch"):
        first = sum((client.first[kind] for client in clients), Counter[str]())
        answers = ", ".join(f"{number} times {answer}" for answer, number in first.most_common())
        result.figures[f"first answer, {kind}"] = answers
        result.expect(set(first) == {"503 outcome-unknown"}, f"the first answers to a {kind} were {dict(first)}")


async def _commit_until_lost(worker: Node) -> None:
    async with administrator(worker.dsn.conninfo) as admin:
        with suppress(psycopg.OperationalError):
            while True:
                await admin.execute("SELECT pg_logical_emit_message(true, '', '')")


class _Keyed:
    """A client that sends each write with a key, and again with the same key until it succeeds."""

    def __init__(self, env: Spread, user: UUID) -> None:
        self._env, self._user, self._number = env, user, env.history.new_client()
        self._task: UUID | None = None
        self._operation: Operation
        self.first = {"create": Counter[str](), "patch": Counter[str]()}
        """The first answers to each kind of write."""
        self.http = Http(env.web.port)

    async def begin(self, *, is_create: bool) -> None:
        """Sends a new write."""
        kind: Kind = "create" if is_create else "patch"
        task = None if is_create else self._task
        self._operation = self._env.history.invoke(self._number, self._user, kind, task_id=task, key=uuid4().hex)
        self.first[kind][_short(await self._send())] += 1

    async def repeat(self) -> None:
        """Sends it again until it succeeds, which has to show that a change was made by the first attempt."""
        result, operation = self._env.result, self._operation
        for _ in range(REPEATS_MAX):
            answer = await self._send()
            if operation.state is State.ACKNOWLEDGED and isinstance(answer, Answer):
                # Without this header it was made again.
                result.doubled += operation.kind == "patch" and "idempotency-replayed" not in answer.headers
                self._task = operation.task_id
                return
            await asyncio.sleep(0.02)
        result.expect(False, f"no repeat succeeded: {operation}")

    async def _send(self) -> Answer | Cut | Unsent:
        answer = await self._env.history.send(self.http, self._operation)
        is_unavailable = isinstance(answer, Answer) and answer.status == 503 and "retry-after" in answer.headers
        self._env.result.unavailable += is_unavailable
        is_wrong = not is_unavailable and self._operation.state is not State.ACKNOWLEDGED
        self._env.result.failed += is_wrong
        self._env.result.expect(not is_wrong, f"{self._operation}: {answer}")
        return answer


def _short(answer: Answer | Cut | Unsent) -> str:
    if not isinstance(answer, Answer):
        return f"no answer ({answer})"
    return f"{answer.status} {answer.problem.rpartition(':')[2]}".strip()


@scenario(
    "shards of Citus moved to and fro", goal="no failed request in 50 moves; nothing acknowledged lost, nothing doubled"
)
async def shards_moved(run: Run, result: Result) -> None:
    seconds = list[float]()
    async with (
        spread(run, result) as env,
        env.administrator() as admin,
        env.load(may_be_unavailable=False) as found,
    ):
        await found.next_success(writes_only=True)
        while result.rounds < run.rounds(50, 4):
            began = monotonic()
            await env.move(admin, env.users)
            seconds.append(monotonic() - began)
            result.rounds += 1
    result.figures["seconds of a move, p50 and most"] = f"{quantile(seconds, 0.5):.1f}, {max(seconds):.1f}"
    _report_writes(result, found)


def _report_writes(result: Result, found: Load) -> None:
    writes = [sample.seconds for sample in found.samples if sample.is_write]
    result.figures["writes, p50, p99 and longest"] = ", ".join(_ms(writes, share) for share in (0.5, 0.99, 1.0))


@scenario(
    "a node added to Citus, shards moved to it, and removed again",
    goal="no failed request in 5 times; nothing acknowledged lost, nothing doubled",
)
async def node_added(run: Run, result: Result) -> None:
    """The coordinator knows one worker at first, which has all shards; the second worker is the node that is added."""
    async with spread(run, result, known=OTHER) as env, env.administrator() as admin:
        added = env.nodes[OTHER]
        async with env.load(may_be_unavailable=False) as found:
            await found.next_success(writes_only=True)
            while result.rounds < run.rounds(5, 1):
                began = monotonic()
                await admin.query("SELECT citus_add_node(%s, %s)", *added.address)
                await admin.query("SELECT citus_rebalance_start(shard_transfer_mode := 'force_logical')")
                await admin.query("SELECT citus_rebalance_wait()")
                took, shards = monotonic() - began, await env.shards(admin)
                result.expect(abs(shards[WORKER] - shards[OTHER]) <= 1, f"the shards are at {dict(shards)}")
                await asyncio.sleep(1)
                await admin.query("SELECT citus_drain_node(%s, %s, 'force_logical')", *added.address)
                # What a move leaves at a node could not be removed after the node, and would be in the way of the next.
                await admin.execute("CALL citus_cleanup_orphaned_resources()")
                await admin.query("SELECT citus_remove_node(%s, %s)", *added.address)
                result.rounds += 1
    result.figures["shards moved to it"] = f"{shards[OTHER]} of {sum(shards.values())} in {took:.0f} s"
    _report_writes(result, found)


@scenario(
    "the coordinator of Citus restarted fast, or killed with -9",
    goal="503 with Retry-After in under 100 ms while it is down; 200s within 500 ms (p99 1 s) after it is back; "
    "nothing acknowledged lost, nothing doubled",
)
async def coordinator_restarted(run: Run, result: Result) -> None:
    refusals = list[float]()
    async with spread(run, result) as env, env.load() as found:
        coordinator = env.nodes[0]
        for _, end in zip(range(run.rounds(50, 4)), cycle((Node.stop, Node.kill)), strict=False):
            await found.next_success(writes_only=True)
            await asyncio.sleep(random.uniform(0, 0.3))
            await asyncio.to_thread(end, coordinator)
            down = monotonic()
            await asyncio.sleep(random.uniform(0.2, 1.5))
            refusals += [each.seconds for each in found.refusals_since(down)]
            await asyncio.to_thread(coordinator.start)
            result.recoveries.append(await found.next_success(writes_only=True))
            result.rounds += 1
    result.expect(bool(refusals), "no request was made while the coordinator was down")
    if refusals:
        result.figures["503 while down p50 / p99 / max"] = " / ".join(_ms(refusals, share) for share in (0.5, 0.99, 1))
        slow = quantile(refusals, 0.99)
        result.goal(slow < 0.1, f"a 503 took {slow * 1000:.0f} ms in the 99th percentile while it was down")
    for share, limit in ((0.5, 0.5), (0.99, 1.0)):
        took = quantile(result.recoveries, share)
        result.goal(took <= limit, f"200s came {took * 1000:.0f} ms after it was back, at the quantile {share:g}")
