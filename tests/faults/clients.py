"""Careful clients who change tasks at random and log every step, for as long as a fault lasts."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from tests.faults.history import History, Kind, Operation, State, did_nothing
from tests.faults.http import Answer, Cut, Http, Unsent
from tests.faults.matrix import Result

TASKS_MAX = 20
"""Tasks that one client keeps; beyond, it deletes more than it creates."""
LIST_LIMIT = 10
NEW_CONNECTION = 0.03
"""Share of the operations before which a client connects anew."""
BACK_OFF = 0.02
"""Mean seconds before a request that was not answered with success is sent again. `Retry-After` says a second, for
which nobody who measures a recovery can wait."""
SHOWN = 5
"""Failures that are told in words."""
_METHODS = {"create": "POST", "replace": "PUT", "patch": "PATCH", "delete": "DELETE", "get": "GET", "list": "GET"}


class Sample(NamedTuple):
    """One request with an answer: when it was sent, on the monotonic clock, and how long it took."""

    sent: float
    seconds: float
    status: int
    is_write: bool


class _Waiter(NamedTuple):
    since: float
    writes_only: bool
    done: asyncio.Future[float]


class Load:
    """What the clients have met so far."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.statuses: Counter[int] = Counter()
        self.samples: list[Sample] = []
        self.unavailable = 0
        """Answers of 503 that are as they must be, with `Retry-After` and a problem document."""
        self.cut = 0
        self.unsent = 0
        self.failures: list[str] = []
        """Answers that no fault excuses."""
        self.ending = False
        self._waiters: list[_Waiter] = []

    @property
    def succeeded(self) -> int:
        return sum(number for status, number in self.statuses.items() if status < 300)

    @property
    def latencies(self) -> dict[int, list[float]]:
        """Seconds from request to answer, by the first digit of the status."""
        found: dict[int, list[float]] = {}
        for sample in self.samples:
            found.setdefault(sample.status // 100, []).append(sample.seconds)
        return found

    async def next_success(self, timeout: float = 30.0, *, writes_only: bool = False) -> float:
        """Seconds from now until the answer to the first successful request that is sent from now on.

        Raises `TimeoutError`.
        """
        now = monotonic()
        waiter = _Waiter(now, writes_only, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            return await asyncio.wait_for(waiter.done, timeout) - now
        except TimeoutError:
            raise TimeoutError(f"no request succeeded within {timeout:g} s") from None
        finally:
            self._waiters.remove(waiter)

    def count(self, operation: Operation, answer: Answer) -> None:
        now = monotonic()
        self.statuses[answer.status] += 1
        self.samples.append(Sample(now - answer.seconds, answer.seconds, answer.status, operation.is_write))
        if answer.status == 503 and "retry-after" in answer.headers and answer.problem:
            self.unavailable += 1
        elif answer.status >= 500:
            self.fail(f"{operation.kind} got {answer.status}: {answer.body[:200]!r}")
        elif answer.status < 300:
            for waiter in self._waiters:
                if now - answer.seconds >= waiter.since and (operation.is_write or not waiter.writes_only):
                    _resolve(waiter.done, now)

    def fail(self, text: str) -> None:
        self.failures.append(text)

    def add_to(self, result: Result, *, may_be_unavailable: bool = True) -> None:
        """Adds what was met; a 503 is a failure where the row allows none, and so is every cut connection."""
        result.unavailable += self.unavailable
        result.failed += len(self.failures) + self.cut + self.unsent
        result.failed += 0 if may_be_unavailable else self.unavailable
        result.violations += self.failures[:SHOWN]
        result.expect(not self.cut + self.unsent, f"{self.cut} connections were cut, {self.unsent} could not be made")


def _resolve(done: asyncio.Future[float], now: float) -> None:
    if not done.done():
        done.set_result(now)


@asynccontextmanager
async def load(
    port: int,
    users: Sequence[UUID],
    history: History,
    *,
    clients: int = 16,
    pause: float = 0.002,
    retry: bool = True,
    timeout: float = 30.0,
) -> AsyncIterator[Load]:
    """Clients who work until the block ends, each with a pause of this mean length between its operations.

    They share the users; each task belongs to one client, who does one thing after the other with it. With `retry`
    what was not answered with success is sent again, if that does no harm, until it is or the block ends. Operations
    that are under way at the end are answered first.
    """
    found = Load(history)
    crowd = [_Client(port, users[number % len(users)], found, pause, timeout, retry=retry) for number in range(clients)]
    working = [asyncio.create_task(client.work()) for client in crowd]
    try:
        yield found
    finally:
        found.ending = True
        await asyncio.gather(*working)


@dataclass
class _Owned:
    """A task as its client knows it."""

    id: UUID
    version: int | None
    """None after a write of which he does not know what became of it."""
    is_sure: bool = True
    """Whether there was never such a write, whose effect may come late."""
    may_be_gone: bool = False


class _Client:
    def __init__(self, port: int, user_id: UUID, found: Load, pause: float, timeout: float, *, retry: bool) -> None:
        self._http = Http(port, timeout)
        self._user_id, self._found, self._pause, self._retry = user_id, found, pause, retry
        self._number = found.history.new_client()
        self._tasks: list[_Owned] = []
        self._names = cycle(("key", "id", "nothing"))

    async def work(self) -> None:
        try:
            while not self._found.ending:
                if random.random() < NEW_CONNECTION:
                    # Who has a connection stays with one worker, and then another may have nothing to do.
                    self._http.close()
                await self._do(self._choose())
                await asyncio.sleep(random.uniform(0, 2 * self._pause))
        finally:
            self._http.close()

    def _choose(self) -> Kind:
        if not self._tasks:
            return "create"
        removed = 25 if len(self._tasks) > TASKS_MAX else 8
        kinds: tuple[Kind, ...] = ("create", "patch", "replace", "delete", "get", "list")
        return random.choices(kinds, (20, 20, 15, removed, 20, 10))[0]

    async def _do(self, kind: Kind) -> None:
        if kind == "create":
            await self._create()
        elif kind == "list":
            await self._send(self._found.history.invoke(self._number, self._user_id, "list"))
        else:
            owned = random.choice(self._tasks)
            # Before a careful client changes a task of which he does not know what it is like, he looks.
            await self._use(owned, "get" if self._retry and owned.version is None else kind)

    async def _create(self) -> None:
        name = next(self._names)
        operation = self._found.history.invoke(
            self._number,
            self._user_id,
            "create",
            body=_values(),
            task_id=uuid4() if name == "id" else None,
            key=uuid4().hex if name == "key" else None,
        )
        await self._send(operation)
        if operation.state is State.ACKNOWLEDGED and operation.task_id:
            self._tasks.append(_Owned(operation.task_id, operation.version))

    async def _use(self, owned: _Owned, kind: Kind) -> None:
        operation = self._found.history.invoke(
            self._number,
            self._user_id,
            kind,
            body=_changes(kind),
            task_id=owned.id,
            expected=owned.version if kind != "get" and random.random() < 0.5 else None,
        )
        await self._send(operation)
        if operation.state is State.ACKNOWLEDGED:
            owned.version = operation.version
        elif operation.state is State.UNKNOWN and operation.is_write:
            owned.version, owned.is_sure = None, False
            owned.may_be_gone |= kind == "delete"
        if operation.status == 412:
            if owned.is_sure:
                self._found.fail(f"nobody else writes to it, and yet: {operation}")
            owned.version = None
        is_deleted = kind == "delete" and operation.state is State.ACKNOWLEDGED
        if operation.status == 404 and not (is_deleted or owned.may_be_gone):
            self._found.fail(f"the task must be there: {operation}")
        if operation.status == 404 or is_deleted:
            self._tasks.remove(owned)

    async def _send(self, operation: Operation) -> None:
        """Sends it until nothing is gained by sending it again."""
        found, history = self._found, self._found.history
        request = _request(operation)
        while True:
            try:
                answer = await self._http.request(*request)
            except Unsent:
                found.unsent += 1
                history.refuse(operation, None)
            except Cut:
                found.cut += 1
                history.doubt(operation, None)
            else:
                found.count(operation, answer)
                if answer.status < 300:
                    history.acknowledge(operation, answer)
                    return
                if answer.status == 404 and operation.kind == "delete" and operation.doubts:
                    history.find_gone(operation, answer)
                    return
                if did_nothing(answer):
                    history.refuse(operation, answer)
                    if answer.status < 500:
                        if answer.status not in {404, 412}:
                            found.fail(f"{operation}: {answer.body[:200]!r}")
                        return
                else:
                    history.doubt(operation, answer)
            if found.ending or not self._retry or (operation.doubts and not operation.can_be_repeated):
                return
            await asyncio.sleep(random.uniform(0, 2 * BACK_OFF))


def _values() -> dict[str, Any]:
    """What a task has beside its title."""
    return {
        "priority": random.choice(("low", "medium", "high")),
        "status": random.choice(("pending", "completed")),
        "tags": random.choice(([], ["home"], ["a", "b"])),
    }


def _changes(kind: Kind) -> dict[str, Any] | None:
    if kind not in {"replace", "patch"}:
        return None
    values = _values()
    return {name: values[name] for name in values if kind == "replace" or random.random() < 0.5}


def _request(operation: Operation) -> tuple[str, str, Any, dict[str, str]]:
    path, body, headers = f"/api/{operation.user_id}/tasks", operation.body, {}
    if operation.kind == "list":
        path += f"?limit={LIST_LIMIT}"
    elif operation.kind != "create":
        path += f"/{operation.task_id}"
    elif operation.task_id is not None:
        body = {**(body or {}), "id": str(operation.task_id)}
    if operation.key is not None:
        headers["Idempotency-Key"] = operation.key
    if operation.expected is not None:
        headers["If-Match"] = f'"{operation.expected}"'
    return _METHODS[operation.kind], path, body, headers
