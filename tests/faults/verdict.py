"""Compares the responses that clients got with the tasks in the database afterwards."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.faults.history import History, Operation, State, Task
from tests.faults.matrix import Result


def judge(history: History, conninfo: str, result: Result) -> None:
    """Compares a history with the database, after all requests have ended, and adds to the result. Blocks.

    An unknown write may be done or not, but only once.
    """
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        query = "SELECT * FROM tasks WHERE user_id = ANY(%(users)s) OR id = ANY(%(tasks)s)"
        tasks = [operation.task_id for operation in history.operations if operation.kind == "create"]
        rows = connection.execute(query, {"users": list(history.users), "tasks": tasks}).fetchall()
    compare(history, rows, result)


def compare(history: History, rows: Sequence[Task], result: Result) -> None:
    by_task: defaultdict[UUID, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        result.acknowledged += operation.is_write and operation.state is State.ACKNOWLEDGED
        result.violations += [f"{operation}: {fault}" for fault in operation.faults]
        if operation.task_id is not None:
            by_task[operation.task_id].append(operation)
    by_id = {row["id"]: row for row in rows if row["deleted_at"] is None}
    for task_id, operations in by_task.items():
        if operations[0].kind == "create" and operations[0].state is State.ACKNOWLEDGED:
            _Life(result, operations).compare(by_id.get(task_id))
    _check_rows(history, rows, result)


def _check_rows(history: History, rows: Sequence[Task], result: Result) -> None:
    """Finds rows that no client wrote, rows of refused writes, and rows that were written twice."""
    created: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        writer = history.writers.get(row["title"])
        if writer is None:
            result.violations.append(f"no client wrote the task {row['id']} with the title {row['title']!r}")
            continue
        if writer.user_id != row["user_id"]:
            result.violations.append(
                f"the task {row['id']} belongs to user {row['user_id']}, but was written by {writer}"
            )
        if writer.state is State.FAILED:
            result.violations.append(f"a refused write is in the database: {writer}")
        if writer.kind == "create":
            created[writer.marker] += 1
        if writer.task_id is not None and writer.task_id != row["id"]:
            # A create with two tasks: the response named the other one.
            result.doubled += writer.kind == "create"
            result.violations.append(f"the task {row['id']} has the values of {writer}")
        elif writer.task_id is None and created[writer.marker] > 1:
            result.doubled += 1
            result.violations.append(f"there are {created[writer.marker]} tasks of {writer}")
        if wrong := {name: row[name] for name, value in (writer.body or {}).items() if row[name] != value}:
            result.violations.append(f"the task {row['id']} does not have the values of {writer}: {wrong}")


class _Life:
    """The life of one task from its acknowledged create on, for the only client that writes to it.

    Each write makes a new version. So between two responses the version changes only by a write whose outcome is
    unknown, which its title tells; any other change is a write that was done twice.
    """

    def __init__(self, result: Result, operations: list[Operation]) -> None:
        self._result = result
        self._create, *self._later = operations
        self._version = self._create.version or 0
        self._title = self._create.marker
        self._unknown: set[str] = set()
        """Titles of writes that may have been done, or may be done later."""
        self._done = {self._title}
        """Titles of writes that were done."""
        self._last = self._create
        self._is_gone = self._may_be_gone = False

    def compare(self, row: Task | None) -> None:
        for operation in self._later:
            self._follow(operation)
        if row is None:
            if not (self._is_gone or self._may_be_gone):
                self._lose(f"it is not in the database: {self._last}")
        elif not self._is_gone:
            self._see(row["version"], row["title"], "the database")
        else:
            self._lose(f"it is in the database after an acknowledged deletion: {self._last}")

    def _follow(self, operation: Operation) -> None:
        match operation.state:
            case State.UNKNOWN if operation.kind == "delete":
                self._may_be_gone = True
            case State.UNKNOWN if operation.is_write:
                self._unknown.add(operation.marker)
            case State.ACKNOWLEDGED:
                self._confirm(operation)
            case _:
                pass
        if operation.status == 404 and not (self._is_gone or self._may_be_gone):
            self._report(f"the task was not found: {operation}")

    def _confirm(self, operation: Operation) -> None:
        if operation.version is not None and operation.title is not None:
            if operation.kind == "get":
                self._see(operation.version, operation.title, str(operation))
            else:
                self._write(operation, operation.version, operation.title)
        if operation.kind == "delete":
            self._is_gone, self._last = True, operation

    def _write(self, operation: Operation, version: int, title: str) -> None:
        if version <= self._version:
            self._report(f"the version went from {self._version} to {version}: {operation}")
        if operation.expected not in {None, self._version}:
            self._report(f"a write to version {operation.expected} changed version {self._version}: {operation}")
        if operation.kind == "delete":
            if title not in {self._title, *self._unknown}:
                self._lose(f"the title is {title!r} in {operation}; the last was {self._last}")
        else:
            self._title = operation.marker
            self._done.add(title)
        self._version, self._last = version, operation

    def _see(self, version: int, title: str, where: str) -> None:
        """Compares a version that was read with the known one, which only unknown writes may have replaced."""
        if version < self._version:
            self._lose(f"version {self._version} went back to {version} in {where}; the last was {self._last}")
            return
        is_new = version > self._version
        if is_new and title in self._unknown:
            self._unknown.remove(title)
        elif is_new and title in self._done:
            self._result.doubled += 1
            self._report(f"version {self._version} became {version} in {where} by a write done before: {title!r}")
        elif title != self._title:
            self._lose(f"the title is {title!r} in {where}; the last was {self._last}")
        self._version, self._title = version, title
        self._done.add(title)

    def _lose(self, text: str) -> None:
        self._result.lost += 1
        self._report(text)

    def _report(self, text: str) -> None:
        self._result.violations.append(f"task {self._create.task_id}: {text}")
