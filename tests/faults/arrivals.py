"""More than a server can do: requests that arrive at a rate of their own, and crowds of clients."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from uuid import UUID, uuid4

from tests.faults.history import History, did_nothing
from tests.faults.http import Answer, Cut, Http, Unsent

LEAD = 0.3
"""Seconds until requests and answers have come into step."""


@dataclass
class Met:
    """What requests met that were sent for so many seconds."""

    seconds: float
    in_time: int = 0
    """How many were accepted, and answered in these seconds, `LEAD` aside."""
    accepted: list[float] = field(default_factory=list)
    """Seconds from request to answer."""
    refused: list[float] = field(default_factory=list)
    """The same of 503 with `Retry-After`."""
    others: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._start = monotonic()
        self._end = self._start + self.seconds

    @property
    def is_over(self) -> bool:
        return monotonic() >= self._end

    @property
    def goodput(self) -> float:
        """Accepted requests a second."""
        return self.in_time / (self.seconds - LEAD)

    def count(self, answer: Answer) -> None:
        if answer.status < 300:
            self.accepted.append(answer.seconds)
            self.in_time += self._start + LEAD <= monotonic() < self._end
        elif answer.status == 503 and "retry-after" in answer.headers:
            self.refused.append(answer.seconds)
        else:
            self.others[str(answer.status)] += 1


class Arrivals:
    """Sends creates, by turns with lists if there are to be reads, on as many connections as are needed."""

    def __init__(self, port: int, users: Sequence[UUID], history: History, *, reads: bool = True) -> None:
        self._port, self._users, self._history, self._reads = port, users, history, reads
        self._client = history.new_client()
        self._turns = count()
        self._free: list[Http] = []

    def close(self) -> None:
        for http in self._free:
            http.close()

    async def open_loop(self, rate: float, seconds: float) -> Met:
        """So many requests a second at random moments, whether those before are answered or not."""
        met, due = Met(seconds), monotonic()
        async with asyncio.TaskGroup() as group:
            while not met.is_over:
                group.create_task(self._send(met))
                due += random.expovariate(rate)
                await asyncio.sleep(max(0.0, due - monotonic()))
        return met

    async def closed_loop(self, clients: int, seconds: float) -> Met:
        """So many clients, each with his next request when the last is answered."""
        met = Met(seconds)

        async def work() -> None:
            while not met.is_over:
                await self._send(met)

        await asyncio.gather(*(work() for _ in range(clients)))
        return met

    async def _send(self, met: Met) -> None:
        turn = next(self._turns)
        user_id = self._users[turn % len(self._users)]
        http = self._free.pop() if self._free else Http(self._port)
        path = f"/api/{user_id}/tasks"
        try:
            if self._reads and turn // len(self._users) % 2:
                met.count(await http.request("GET", f"{path}?limit=10"))
            else:
                await self._create(met, http, user_id, path)
        except (Cut, Unsent) as error:
            met.others[type(error).__name__] += 1
        finally:
            self._free.append(http)

    async def _create(self, met: Met, http: Http, user_id: UUID, path: str) -> None:
        operation = self._history.invoke(self._client, user_id, "create", key=uuid4().hex)
        answer = await http.request("POST", path, dict(operation.body or {}), {"Idempotency-Key": operation.key or ""})
        met.count(answer)
        if answer.status < 300:
            self._history.acknowledge(operation, answer)
        elif did_nothing(answer):
            self._history.refuse(operation, answer)
        else:
            self._history.doubt(operation, answer)
