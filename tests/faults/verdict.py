"""Compares what clients were told with what is in the database afterwards."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.faults.bed import Bed
from tests.faults.clients import Load
from tests.faults.history import History, Operation, State, Task
from tests.faults.matrix import Result

SHOWN = 20
"""Violations of one row that are told in words."""


@dataclass
class Verdict:
    """`acknowledged` counts writes; `lost` and `doubled` are told in `violations` as well."""

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    violations: list[str] = field(default_factory=list)

    def add_to(self, result: Result) -> None:
        result.acknowledged += self.acknowledged
        result.lost += self.lost
        result.doubled += self.doubled
        result.violations += self.violations[:SHOWN]
        if len(self.violations) > SHOWN:
            result.violations.append(f"and {len(self.violations) - SHOWN} more like these")


async def conclude(bed: Bed, load: Load, result: Result, *, may_be_unavailable: bool = True, restarts: int = 0) -> None:
    """What every row does when its load has ended: waits until all is at rest, and counts what came of it."""
    load.add_to(result, may_be_unavailable=may_be_unavailable)
    await bed.settle(result, restarts=restarts)
    (await asyncio.to_thread(judge, load.history, bed.conninfo)).add_to(result)


def judge(history: History, conninfo: str) -> Verdict:
    """Call it when nothing is under way any more: what is unknown may be done or not, but only once.

    Nobody else may have written to the users of the history. Blocks.
    """
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        query = "SELECT * FROM tasks WHERE user_id = ANY(%(users)s) OR id = ANY(%(tasks)s)"
        tasks = [operation.task_id for operation in history.operations if operation.kind == "create"]
        rows = connection.execute(query, {"users": list(history.users), "tasks": tasks}).fetchall()
    return compare(history, rows)


def compare(history: History, rows: Sequence[Task]) -> Verdict:
    verdict = Verdict()
    by_task: defaultdict[UUID, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        verdict.acknowledged += operation.is_write and operation.state is State.ACKNOWLEDGED
        verdict.violations += [f"{operation}: {fault}" for fault in operation.faults]
        if operation.task_id is not None:
            by_task[operation.task_id].append(operation)
    by_id = {row["id"]: row for row in rows}
    for task_id, operations in by_task.items():
        if operations[0].kind == "create" and operations[0].state is State.ACKNOWLEDGED:
            _Life(verdict, operations).compare(by_id.get(task_id))
    _look_for_strangers(history, rows, verdict)
    return verdict


def _look_for_strangers(history: History, rows: Sequence[Task], verdict: Verdict) -> None:
    """Finds rows that nobody wrote, that were written although they were refused, or written twice."""
    created: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        writer = history.writers.get(row["title"])
        if writer is None:
            verdict.violations.append(f"nobody wrote the task {row['id']} with the title {row['title']!r}")
            continue
        if writer.user_id != row["user_id"]:
            verdict.violations.append(
                f"the task {row['id']} belongs to user {row['user_id']}, but was written by {writer}"
            )
        if writer.state is State.FAILED:
            verdict.violations.append(f"it was refused, and yet it is there: {writer}")
        if writer.kind == "create":
            created[writer.marker] += 1
        if writer.task_id is not None and writer.task_id != row["id"]:
            # Of a create whose answer named another task there are two.
            verdict.doubled += writer.kind == "create"
            verdict.violations.append(f"the task {row['id']} has the values of {writer}")
        elif writer.task_id is None and created[writer.marker] > 1:
            verdict.doubled += 1
            verdict.violations.append(f"there are {created[writer.marker]} tasks of {writer}")
        if wrong := _differences(writer.body or {}, row):
            verdict.violations.append(f"the task {row['id']} has not the values of {writer}: {wrong}")


def _differences(body: Task, row: Task) -> list[str]:
    return [f"{name} is {row[name]!r}" for name, value in body.items() if row[name] != value]


class _Life:
    """One task from its acknowledged create on, as the only client who writes to it has lived it.

    A version grows by one with each write. So between two answers it may grow by no more than the writes of which
    nobody knows what became of them; what is beyond was done twice.
    """

    def __init__(self, verdict: Verdict, operations: list[Operation]) -> None:
        self._verdict = verdict
        self._create, *self._later = operations
        self._version = self._create.version or 0
        self._titles = {self._create.marker}
        """What the task in this version may be called."""
        self._unknown: dict[str, Operation] = {}
        """Writes that may have been done, or be done yet, by the title that they write."""
        self._spare = 0
        """How many of them nothing has shown to be done."""
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
        elif not self._create.doubts:
            # A create that was sent again, and arrives only now, makes a deleted task anew, as the documentation says.
            self._lose(f"it is in the database, although its deletion was acknowledged: {self._last}")

    def _follow(self, operation: Operation) -> None:
        match operation.state:
            case State.UNKNOWN if operation.kind == "delete":
                self._may_be_gone = True
            case State.UNKNOWN if operation.is_write:
                self._unknown[operation.marker] = operation
                self._spare += 1
            case State.ACKNOWLEDGED:
                self._confirm(operation)
            case _:
                pass
        if operation.status == 404 and not (self._is_gone or self._may_be_gone):
            self._tell(f"the task was not found: {operation}")

    def _confirm(self, operation: Operation) -> None:
        if operation.version is not None and operation.title is not None:
            if operation.kind in {"replace", "patch"}:
                self._write(operation, operation.version)
            else:
                self._see(operation.version, operation.title, str(operation))
        if operation.kind == "delete":
            self._is_gone, self._last = True, operation

    def _write(self, operation: Operation, version: int) -> None:
        if version <= self._version:
            self._tell(f"the version did not grow from {self._version} to {version}: {operation}")
        self._grow(version - 1, f"before {operation}")
        if operation.expected is not None and version != operation.expected + 1:
            self._tell(f"it was meant for version {operation.expected} and made {version}: {operation}")
        self._version, self._titles, self._last = version, {operation.marker}, operation

    def _see(self, version: int, title: str, where: str) -> None:
        """What is told or found: the last version that is known, or one that a write made of which nothing is known."""
        if version < self._version:
            self._lose(f"version {self._version} went back to {version} in {where}; the last was {self._last}")
            return
        if version > self._version:
            # Beyond what is unknown it was the last write that was done again, and told as that.
            again = self._titles if version > self._version + self._spare else set()
            self._titles = {*self._unknown} | again
        if title not in self._titles:
            self._lose(f"the title is {title!r} in {where}; the last was {self._last}")
        self._grow(version, f"in {where}")
        self._titles = {title}

    def _grow(self, version: int, where: str) -> None:
        surplus = version - self._version - self._spare
        if surplus > 0:
            self._verdict.doubled += surplus
            self._tell(f"version {self._version} became {version} {where}: {surplus} writes too many")
        self._spare -= max(0, min(self._spare, version - self._version))
        self._version = max(self._version, version)

    def _lose(self, text: str) -> None:
        self._verdict.lost += 1
        self._tell(text)

    def _tell(self, text: str) -> None:
        self._verdict.violations.append(f"task {self._create.task_id}: {text}")
