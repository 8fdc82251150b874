"""Clients that change each other's tasks in every way that the API has, and repeat what they may repeat."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.faults.history import WITH_VALUES, Kind, Operation
from tests.faults.http import Answer, Cut, Http, Unsent
from tests.sync.cuts import Cuts
from tests.sync.log import Log

TASKS = 50
"""Tasks of one user that are neither erased nor in the trash, about."""
BATCH_MAX = 20
KEYS_REMEMBERED = 8
"""Keyed changes of one task after which the first of them may be forgotten."""
ATTEMPTS_MAX = 12
BACK_OFF = 0.02
STATUSES = {200, 201, 204, 404, 409, 412, 503}
REPEATED = 0.25
"""Share of the answered requests that are sent again later, as by a client that has lost the answer."""
BATCHED, EMPTIED, LISTED = 0.12, 0.002, 0.03
KEYED, CONDITIONAL, MISTAKEN = 0.5, 0.4, 0.03
"""Shares of the changes that have a key, that have a version, and that are for any task, in the trash or not."""
KINDS: tuple[Kind, ...] = ("create", "patch", "replace", "delete", "restore", "erase")


class Keys:
    """The changes by key of each task that may still be sent again, so that no task has to remember too many."""

    def __init__(self) -> None:
        self._begun = Counter[UUID]()
        self._open: dict[UUID, dict[str, int]] = {}

    def begin(self, task_id: UUID, key: str) -> bool:
        """Returns False if a change of the task might be forgotten that may still be sent again."""
        waiting = self._open.setdefault(task_id, {})
        if waiting and self._begun[task_id] - min(waiting.values()) >= KEYS_REMEMBERED - 1:
            return False
        waiting[key] = self._begun[task_id]
        self._begun[task_id] += 1
        return True

    def end(self, operation: Operation) -> None:
        """The operation will not be sent any more."""
        if operation.key is not None and operation.task_id is not None:
            self._open.get(operation.task_id, {}).pop(operation.key, None)


@dataclass
class Writer:
    user_id: UUID
    http: Http
    log: Log
    cuts: Cuts
    keys: Keys
    pause: float
    statuses: Counter[int] = field(default_factory=Counter)
    repeats: int = 0
    """Operations that were sent again after their answer."""
    _done: deque[tuple[list[Operation], bool]] = field(default_factory=deque)
    """Requests that will be sent again, and if they were batches."""

    def __post_init__(self) -> None:
        self._number = self.log.new_client()

    async def work(self, ending: asyncio.Event) -> None:
        try:
            while not ending.is_set():
                await self._do_something()
                await asyncio.sleep(random.uniform(0, 2 * self.pause))
            while self._done:
                await self._repeat()
        finally:
            self.http.close()

    async def _do_something(self) -> None:
        chance = random.random()
        if chance < EMPTIED:
            await self._ask("DELETE", f"/api/{self.user_id}/trash")
        elif chance < EMPTIED + LISTED:
            await self._list()
        elif self._done and chance < 0.1:
            await self._repeat()
        else:
            await self._change(is_batch=chance > 1 - BATCHED)

    async def _change(self, *, is_batch: bool) -> None:
        operations: list[Operation] = []
        for _ in range(random.randint(2, BATCH_MAX) if is_batch else 1):
            operations.append(self._invoke({each.task_id for each in operations}, is_batch=is_batch))
        if text := operations[0].marker if operations[0].body else operations[0].key:
            self.cuts.arm(text)
        await self._send(operations, is_batch=is_batch)
        if all(each.is_named for each in operations) and random.random() < REPEATED:
            self._done.append((operations, is_batch))
        else:
            self._end(operations)

    def _invoke(self, taken: set[UUID | None], *, is_batch: bool) -> Operation:
        """Logs an operation that makes sense for what is known of the tasks, which other clients change meanwhile."""
        free = [row for row in self.log.latest[self.user_id].values() if row.id not in taken]
        live, trashed = [row for row in free if row.is_live], [row for row in free if not row.is_live]
        creates, erasures = 20 if len(live) < TASKS else 4, 0 if is_batch else len(trashed) / 9
        weights = (creates, 30, 12, 10, min(10, len(trashed)), erasures)
        [kind] = random.choices(KINDS, weights)
        rows = trashed if kind in {"restore", "erase"} else live
        if random.random() < MISTAKEN:
            rows = free
        if kind == "create" or not rows:
            return self._create(is_batch=is_batch)
        row = random.choice(rows)
        key = uuid4().hex if kind != "erase" and random.random() < KEYED else None
        if key and not self.keys.begin(row.id, key):
            key = None
        expected = row.version if kind != "erase" and random.random() < CONDITIONAL else None
        body = _values() if kind in WITH_VALUES else None
        return self.log.invoke(self._number, self.user_id, kind, body, task_id=row.id, key=key, expected=expected)

    def _create(self, *, is_batch: bool) -> Operation:
        way = "id" if is_batch else random.choice(("id", "key", "nothing"))
        task_id, key = uuid4() if way == "id" else None, uuid4().hex if way == "key" else None
        return self.log.invoke(self._number, self.user_id, "create", _values(), task_id=task_id, key=key)

    async def _send(self, operations: Sequence[Operation], *, is_batch: bool) -> None:
        """Sends operations until a retry would gain nothing or may do harm."""
        for _ in range(ATTEMPTS_MAX):
            if is_batch:
                answer = await self.log.send_batch(self.http, operations)
            else:
                answer = await self.log.send(self.http, operations[0])
            self._count(answer, str(operations[0]))
            for operation in operations:
                if operation.status == 404 and operation.task_id:
                    self.log.latest[self.user_id].pop(operation.task_id, None)
            is_answered = isinstance(answer, Answer) and answer.status < 500
            is_harmful = any(each.unknown_attempts and not each.can_be_repeated for each in operations)
            if is_answered or is_harmful:
                return
            await asyncio.sleep(random.uniform(0, 2 * BACK_OFF))

    async def _repeat(self) -> None:
        """Sends the oldest request again that is to be repeated, which must not do anything again."""
        operations, is_batch = self._done.popleft()
        self.repeats += 1
        await self._send(operations, is_batch=is_batch)
        self._end(operations)

    def _end(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            self.keys.end(operation)

    async def _list(self) -> None:
        for path in ("tasks?limit=100", "trash?limit=100"):
            answer = await self._ask("GET", f"/api/{self.user_id}/{path}")
            for item in answer.json["items"] if answer and answer.status == 200 else ():
                if self.log.see(item).is_live != path.startswith("tasks"):
                    self.log.faults.append(f"{path} shows {item}")

    async def _ask(self, method: str, path: str) -> Answer | None:
        try:
            answer = await self.http.request(method, path)
        except (Cut, Unsent):
            return None
        self._count(answer, f"{method} {path}")
        return answer

    def _count(self, answer: Answer | Cut | Unsent, request: str) -> None:
        if isinstance(answer, Answer):
            self.statuses[answer.status] += 1
            if answer.status not in STATUSES:
                self.log.faults.append(f"answered {answer.status}: {request}: {answer.body[:300]!r}")


def _values() -> dict[str, Any]:
    """Random values for the fields of a task that do not tell which write it was."""
    due = datetime.now(UTC) + timedelta(days=random.randint(1, 9))
    return {
        "priority": random.choice(("low", "medium", "high")),
        "status": random.choice(("pending", "completed")),
        "tags": random.choice(([], ["home"], ["a", "b"])),
        "due_date": random.choice((None, due.isoformat())),
    }
