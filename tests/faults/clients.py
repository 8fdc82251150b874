"""Careful clients that change tasks at random and log every operation, for as long as a fault lasts."""

import asyncio
import random
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from tests.faults.history import History, Kind, Operation, State
from tests.faults.http import Answer, Cut, Http, Unsent
from tests.faults.matrix import Result

TASKS_MAX = 20
"""Tasks that one client keeps; with more it deletes more than it creates."""
NEW_CONNECTION = 0.03
"""Share of the operations before which a client opens a new connection."""
BACK_OFF = 0.02
"""Mean seconds before a retry. `Retry-After` says one second, which would hide how long a recovery takes."""
POLL, TIMEOUT = 0.002, 30.0


class Sample(NamedTuple):
    """One request with a response: when it was sent, on the monotonic clock, and how long it took."""

    sent: float
    seconds: float
    status: int
    is_write: bool


class Load:
    """The responses and failures of the clients so far."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.started = monotonic()
        self.samples: list[Sample] = []
        self.succeeded = 0
        self.unavailable = 0
        """Responses of 503 with `Retry-After` and a problem document."""
        self.cut = 0
        self.unsent = 0
        self.failures: list[str] = []
        """Responses that no fault excuses."""
        self.is_ending = False

    async def next_response(self, statuses: Container[int], *, writes_only: bool = False) -> float:
        """Seconds from now to the first response with such a status to a request that is sent from now on.

        Raises `TimeoutError` after half a minute.
        """
        since, seen = monotonic(), len(self.samples)
        while monotonic() < since + TIMEOUT:
            for sample in self.samples[seen:]:
                is_meant = sample.status in statuses and (sample.is_write or not writes_only)
                if is_meant and sample.sent >= since:
                    return sample.sent + sample.seconds - since
            seen = len(self.samples)
            await asyncio.sleep(POLL)
        raise TimeoutError(f"no response with a status in {statuses}")

    async def next_success(self, *, writes_only: bool = False) -> float:
        return await self.next_response(range(200, 300), writes_only=writes_only)

    def refusals_since(self, moment: float) -> list[Sample]:
        """The 503 responses to requests that were sent since then."""
        return [sample for sample in self.samples if sample.sent >= moment and sample.status == 503]

    def count(self, operation: Operation, answer: Answer | Cut | Unsent) -> None:
        if not isinstance(answer, Answer):
            self.cut += isinstance(answer, Cut)
            self.unsent += isinstance(answer, Unsent)
            return
        self.samples.append(Sample(monotonic() - answer.seconds, answer.seconds, answer.status, operation.is_write))
        if answer.status < 300:
            self.succeeded += 1
        elif answer.status == 503 and "retry-after" in answer.headers and answer.problem:
            self.unavailable += 1
        elif answer.status not in (404, 412):
            self.failures.append(f"{operation}: {answer.body[:200]!r}")

    def add_to(self, result: Result, *, may_be_unavailable: bool = True, may_be_cut: bool = False) -> None:
        """Adds the counts to a result. Cut connections and 503 are failures unless they are allowed."""
        cut = self.unsent + (0 if may_be_cut else self.cut)
        result.unavailable += self.unavailable
        result.failed += len(self.failures) + cut + (0 if may_be_unavailable else self.unavailable)
        result.violations += self.failures
        result.expect(not cut, f"{self.cut} connections were cut, {self.unsent} could not be made")


@asynccontextmanager
async def load(
    port: int, users: Sequence[UUID], history: History, *, clients: int = 16, pause: float = 0.002, retry: bool = True
) -> AsyncIterator[Load]:
    """Runs clients until the block ends, each with a pause of this mean length between its operations.

    The clients share the users. Each task belongs to one client, which sends one operation on it after the other. With
    `retry` an operation without success is sent again, if that does no harm, until it succeeds or the block ends.
    Operations under way at the end are answered first.
    """
    found = Load(history)
    crowd = [_Client(port, users[number % len(users)], found, pause, retry=retry) for number in range(clients)]
    working = [asyncio.create_task(client.work()) for client in crowd]
    try:
        yield found
    finally:
        found.is_ending = True
        await asyncio.gather(*working)


@dataclass
class _Owned:
    """A task as its client knows it."""

    id: UUID
    version: int | None
    """None after a write whose outcome is unknown."""
    is_sure: bool = True
    """False after such a write, whose effect may come late."""
    may_be_gone: bool = False


class _Client:
    def __init__(self, port: int, user_id: UUID, found: Load, pause: float, *, retry: bool) -> None:
        self._http = Http(port)
        self._user_id, self._found, self._pause, self._retry = user_id, found, pause, retry
        self._number = found.history.new_client()
        self._tasks: list[_Owned] = []
        self._names = cycle(("key", "id", "nothing"))

    async def work(self) -> None:
        try:
            while not self._found.is_ending:
                if random.random() < NEW_CONNECTION:
                    # A connection stays with one worker, so another worker might get no requests.
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
            await self._send("list")
        else:
            owned = random.choice(self._tasks)
            # A careful client reads a task whose version it does not know before it changes the task.
            await self._use(owned, "get" if self._retry and owned.version is None else kind)

    async def _create(self) -> None:
        name = next(self._names)
        task_id, key = uuid4() if name == "id" else None, uuid4().hex if name == "key" else None
        operation = await self._send("create", _values(), task_id=task_id, key=key)
        if operation.state is State.ACKNOWLEDGED and operation.task_id:
            self._tasks.append(_Owned(operation.task_id, operation.version))

    async def _use(self, owned: _Owned, kind: Kind) -> None:
        body = None
        if kind in ("replace", "patch"):
            body = {name: value for name, value in _values().items() if kind == "replace" or random.random() < 0.5}
        expected = owned.version if kind != "get" and random.random() < 0.5 else None
        operation = await self._send(kind, body, task_id=owned.id, expected=expected)
        if operation.state is State.ACKNOWLEDGED:
            owned.version = operation.version
        elif operation.state is State.UNKNOWN and operation.is_write:
            owned.version, owned.is_sure = None, False
            owned.may_be_gone |= kind == "delete"
        if operation.status == 412:
            if owned.is_sure:
                self._found.failures.append(f"no other client writes to the task, and yet: {operation}")
            owned.version = None
        is_deleted = kind == "delete" and operation.state is State.ACKNOWLEDGED
        if operation.status == 404 and not (is_deleted or owned.may_be_gone):
            self._found.failures.append(f"the task must exist: {operation}")
        if operation.status == 404 or is_deleted:
            self._tasks.remove(owned)

    async def _send(self, kind: Kind, body: dict[str, Any] | None = None, **more: Any) -> Operation:
        """Sends an operation until a retry would gain nothing."""
        operation = self._found.history.invoke(self._number, self._user_id, kind, body, **more)
        while True:
            answer = await self._found.history.send(self._http, operation)
            self._found.count(operation, answer)
            if isinstance(answer, Answer) and answer.status < 500:
                return operation
            is_harmful = operation.unknown_attempts > 0 and not operation.can_be_repeated
            if self._found.is_ending or not self._retry or is_harmful:
                return operation
            await asyncio.sleep(random.uniform(0, 2 * BACK_OFF))


def _values() -> dict[str, Any]:
    """Random values for the fields of a task other than its title."""
    return {
        "priority": random.choice(("low", "medium", "high")),
        "status": random.choice(("pending", "completed")),
        "tags": random.choice(([], ["home"], ["a", "b"])),
    }
