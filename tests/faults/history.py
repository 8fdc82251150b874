"""The log of what clients asked for and what they heard: each write with a title that nobody else writes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import Any, Literal, override
from uuid import UUID, uuid4

from tests.faults.http import Answer

type Kind = Literal["create", "replace", "patch", "delete", "get", "list"]
type Task = Mapping[str, Any]

WRITES = ("create", "replace", "patch", "delete")
UNAVAILABLE = "urn:problem:todo:service-unavailable"
"""The problem of a request that has done nothing."""


class State(Enum):
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """Definitely: it has done nothing, and never will."""
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Operation:
    """What one client wants, however often it is sent for that. Without an answer it stays unknown."""

    client: int
    sequence: int
    user_id: UUID
    kind: Kind
    marker: str
    """The title that it writes; of reads and deletions just a name."""
    body: Mapping[str, Any] | None = None
    task_id: UUID | None = None
    """Of a create without an id or key only known by its answer."""
    key: str | None = None
    expected: int | None = None
    """The version in `If-Match`."""
    invoked_at: float = field(default_factory=monotonic)
    state: State = State.UNKNOWN
    doubts: int = 0
    """How often it was sent without anybody hearing what became of it."""
    status: int | None = None
    """Of the last answer."""
    title: str | None = None
    """Of the task in the answer, and so the version."""
    version: int | None = None
    faults: list[str] = field(default_factory=list)
    """What can be seen to be wrong with the answer alone."""

    @property
    def is_write(self) -> bool:
        return self.kind in WRITES

    @property
    def can_be_repeated(self) -> bool:
        """Whether sending it again after it may have been done does no harm."""
        named = self.kind == "create" and (self.key is not None or self.task_id is not None)
        return named or self.kind in ("delete", "get", "list") or self.expected is not None

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.marker} of task {self.task_id} ({self.state.value}, last status {self.status})"


class History:
    """Append-only. `users` are those whose rows nobody else may write."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.users: set[UUID] = set()
        self.writers: dict[str, Operation] = {}
        """Who writes which title."""
        self._sequences: defaultdict[int, int] = defaultdict(int)
        self._clients = 0

    def new_client(self) -> int:
        self._clients += 1
        return self._clients

    def invoke(
        self,
        client: int,
        user_id: UUID,
        kind: Kind,
        *,
        body: Mapping[str, Any] | None = None,
        task_id: UUID | None = None,
        key: str | None = None,
        expected: int | None = None,
    ) -> Operation:
        """Logs what is going to be sent. A create, replace or patch gets its title, as `body["title"]`, here."""
        self._sequences[client] += 1
        sequence = self._sequences[client]
        marker = f"{client}-{sequence}-{uuid4().hex[:12]}"
        if kind in ("create", "replace", "patch"):
            # The description comes with the title, so that a write that was done by half can be seen.
            body = {**(body or {}), "title": marker, "description": marker}
        operation = Operation(client, sequence, user_id, kind, marker, body, task_id, key, expected)
        self.users.add(user_id)
        self.operations.append(operation)
        if body is not None:
            self.writers[marker] = operation
        return operation

    def acknowledge(self, operation: Operation, answer: Answer) -> None:
        """Logs a success and looks at the tasks in it, of which a list is not kept."""
        operation.state, operation.status = State.ACKNOWLEDGED, answer.status
        tasks: Sequence[Task] = answer.json["items"] if operation.kind == "list" else [answer.json]
        for task in tasks:
            self._check_owner(operation, task)
        if operation.kind != "list":
            [task] = tasks
            self._take(operation, task)

    def refuse(self, operation: Operation, answer: Answer | None) -> None:
        """Logs an attempt that definitely did nothing: no answer stands for what was not sent."""
        operation.status = answer.status if answer else operation.status
        # What was sent before and not answered may have been done, or even be done later.
        operation.state = State.UNKNOWN if operation.doubts else State.FAILED

    def doubt(self, operation: Operation, answer: Answer | None) -> None:
        """Logs an attempt of which nobody knows what became of it."""
        operation.status = answer.status if answer else operation.status
        operation.doubts += 1
        operation.state = State.UNKNOWN

    def find_gone(self, operation: Operation, answer: Answer) -> None:
        """Logs that a delete was answered by 404 after an attempt that nobody knows of: it was done then."""
        operation.state, operation.status = State.ACKNOWLEDGED, answer.status

    def _check_owner(self, operation: Operation, task: Task) -> None:
        writer = self.writers.get(task["title"])
        if task["user_id"] != str(operation.user_id):
            operation.faults.append(f"the answer has a task of user {task['user_id']}")
        elif writer is None:
            operation.faults.append(f"the answer has a title that nobody wrote: {task['title']!r}")
        elif writer.user_id != operation.user_id:
            operation.faults.append(f"the answer has what user {writer.user_id} wrote")

    def _take(self, operation: Operation, task: Task) -> None:
        task_id = UUID(task["id"])
        if operation.task_id is not None and task_id != operation.task_id:
            operation.faults.append(f"the answer is about task {task_id}")
        if operation.kind in ("create", "replace", "patch") and task["title"] != operation.marker:
            operation.faults.append(f"the answer has the title {task['title']!r}")
        operation.task_id = task_id
        operation.title, operation.version = task["title"], task["version"]


def did_nothing(answer: Answer) -> bool:
    """Whether a refusal says that nothing was done: any 4xx does, and a 503 that says so."""
    return 400 <= answer.status < 500 or (answer.status == 503 and answer.problem == UNAVAILABLE)
