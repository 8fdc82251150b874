"""The log of client requests and their responses. Each write has a title that no other write has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import Any, Literal, override
from uuid import UUID, uuid4

from tests.faults.http import Answer, Cut, Http, Unsent

type Kind = Literal["create", "replace", "patch", "delete", "restore", "erase", "get", "list"]
type Task = Mapping[str, Any]

METHODS = {
    "create": "POST", "replace": "PUT", "patch": "PATCH", "delete": "DELETE", "restore": "POST", "erase": "DELETE",
    "get": "GET", "list": "GET",
}  # fmt: skip
WITH_VALUES = ("create", "replace", "patch")
LIST_LIMIT = 10
UNAVAILABLE = "urn:problem:todo:service-unavailable"
"""The problem of a request that has done nothing."""


class State(Enum):
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """The operation has done nothing, and never will."""
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Operation:
    """One intention of a client, sent one or more times. It is unknown until it is answered."""

    client: int
    user_id: UUID
    kind: Kind
    marker: str
    """The title that it writes; a mere name for reads and deletions."""
    body: Mapping[str, Any] | None = None
    task_id: UUID | None = None
    """For a create without an id or key, the id is known from its response."""
    key: str | None = None
    expected: int | None = None
    """The version in `If-Match`."""
    invoked_at: float = field(default_factory=monotonic)
    state: State = State.UNKNOWN
    attempts: int = 0
    """Times that it was sent."""
    unknown_attempts: int = 0
    """Times that it was sent and the outcome remained unknown."""
    status: int | None = None
    """The status of the last response."""
    title: str | None = None
    """The title of the task in the response."""
    version: int | None = None
    faults: list[str] = field(default_factory=list)
    """Errors that the response alone shows."""

    @property
    def is_write(self) -> bool:
        return self.kind not in ("get", "list")

    @property
    def is_named(self) -> bool:
        """True if the server knows a repeat of it, by a key or by the id of a new task."""
        return self.key is not None or (self.kind == "create" and self.task_id is not None)

    @property
    def can_be_repeated(self) -> bool:
        """True if sending it again does no harm, even after it may have been done."""
        return self.is_named or self.kind in ("delete", "erase", "get", "list") or self.expected is not None

    @property
    def request(self) -> tuple[str, str, Mapping[str, Any] | None, dict[str, str]]:
        """The method, path, body and headers."""
        path, body, headers = f"/api/{self.user_id}/tasks", self.body, {}
        if self.kind == "list":
            path += f"?limit={LIST_LIMIT}"
        elif self.kind in {"restore", "erase"}:
            path = f"/api/{self.user_id}/trash/{self.task_id}{'/restore' if self.kind == 'restore' else ''}"
        elif self.kind != "create":
            path += f"/{self.task_id}"
        elif self.task_id is not None and self.key is None:
            body = {**(body or {}), "id": str(self.task_id)}
        if self.key is not None:
            headers["Idempotency-Key"] = self.key
        if self.expected is not None:
            headers["If-Match"] = f'"{self.expected}"'
        return METHODS[self.kind], path, body, headers

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.marker} of task {self.task_id} ({self.state.value}, last status {self.status})"


class History:
    """An append-only log. No client outside of it may write tasks of its `users`."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.users: set[UUID] = set()
        self.writers: dict[str, Operation] = {}
        """The operation that writes each title."""
        self._clients = 0

    def new_client(self) -> int:
        self._clients += 1
        return self._clients

    def invoke(
        self, client: int, user_id: UUID, kind: Kind, body: Mapping[str, Any] | None = None, **more: Any
    ) -> Operation:
        """Logs an operation before it is sent, and gives a create, replace or patch its title.

        `more` are other fields of the operation.
        """
        marker = f"{client}-{uuid4().hex[:16]}"
        if kind in WITH_VALUES:
            # A description equal to the title shows a write that was done by half.
            body = {**(body or {}), "title": marker, "description": marker}
        operation = Operation(client, user_id, kind, marker, body, **more)
        self.users.add(user_id)
        self.operations.append(operation)
        if body is not None:
            self.writers[marker] = operation
        return operation

    async def send(self, http: Http, operation: Operation) -> Answer | Cut | Unsent:
        """Sends an operation and logs the outcome."""
        method, path, body, headers = operation.request
        operation.attempts += 1
        try:
            answer = await http.request(method, path, dict(body) if body else None, headers)
        except Cut as error:
            self.mark_unknown(operation)
            return error
        except Unsent as error:
            self.refuse(operation)
            return error
        self.record(operation, answer)
        return answer

    def record(self, operation: Operation, answer: Answer) -> None:
        """Logs a response and checks the tasks in it."""
        operation.status = answer.status
        if answer.status < 300:
            self._acknowledge(operation, answer)
        elif answer.status == 404 and operation.kind == "delete" and operation.unknown_attempts:
            # An attempt whose outcome was unknown has deleted the task.
            operation.state = State.ACKNOWLEDGED
        elif answer.status < 500 or answer.problem == UNAVAILABLE:
            self.refuse(operation)
        else:
            self.mark_unknown(operation)

    def refuse(self, operation: Operation) -> None:
        """Logs an attempt that has done nothing."""
        # An earlier attempt without a response may have been done, or be done later.
        operation.state = State.UNKNOWN if operation.unknown_attempts else State.FAILED

    def mark_unknown(self, operation: Operation) -> None:
        """Logs an attempt whose outcome is unknown."""
        operation.unknown_attempts += 1
        operation.state = State.UNKNOWN

    def _acknowledge(self, operation: Operation, answer: Answer) -> None:
        operation.state = State.ACKNOWLEDGED
        if answer.status == 204:
            return
        tasks: Sequence[Task] = answer.json["items"] if operation.kind == "list" else [answer.json]
        for task in tasks:
            writer = self.writers.get(task["title"])
            if task["user_id"] != str(operation.user_id):
                operation.faults.append(f"the response has a task of user {task['user_id']}")
            elif writer is None:
                operation.faults.append(f"the response has a title that no client wrote: {task['title']!r}")
            elif writer.user_id != operation.user_id:
                operation.faults.append(f"the response has values that user {writer.user_id} wrote")
        if operation.kind != "list":
            [task] = tasks
            if operation.task_id not in (None, UUID(task["id"])):
                operation.faults.append(f"the response is about task {task['id']}")
            # A repeat is answered with the task as it is now, which another client may have changed.
            is_repeat = operation.attempts > 1
            if operation.kind in WITH_VALUES and not is_repeat and task["title"] != operation.marker:
                operation.faults.append(f"the response has the title {task['title']!r}")
            operation.task_id = UUID(task["id"])
            operation.title, operation.version = task["title"], task["version"]
