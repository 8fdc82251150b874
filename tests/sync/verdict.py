"""Holds what clients were told, and the copies that readers made by the feed, against what PostgreSQL has committed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from tests.faults.history import WITH_VALUES, Operation, State
from tests.sync.commits import Change
from tests.sync.log import Log
from tests.sync.rows import Row

type Key = tuple[UUID, UUID]
"""The owner and the id of a task."""
type Fault = Literal["missed", "lost", "doubled", "resurrected", "disordered", "false"]
"""What went wrong: a reader that polled to the end does not have it; an acknowledged write was not done; a write was
done twice; a deleted task is back; revisions are not in the order of commits, or were seen in another; an answer shows
what was never there, or a refused or unknown write was done."""


class Copy(Protocol):
    """A reader's copy of the tasks of one user after it has polled to the end."""

    name: str
    user_id: UUID
    items: dict[UUID, Row]
    faults: list[str]
    """Answers that were not in the order of the feed."""


@dataclass
class Findings:
    faults: list[tuple[Fault, str]] = field(default_factory=list)
    writes: int = 0
    """Changes that were committed: one for each version of a task."""

    def add(self, fault: Fault, text: str) -> None:
        self.faults.append((fault, text))

    @property
    def counts(self) -> Counter[Fault]:
        return Counter(fault for fault, _ in self.faults)


def check(log: Log, changes: Iterable[Change], table: Mapping[Key, Row], copies: Sequence[Copy]) -> Findings:
    """Compares everything, after all requests have ended. `table` has all tasks of the log's users as they are now."""
    findings = Findings()
    past = _Past(findings, log)
    for change in changes:
        if change.user_id in log.users:
            past.follow(change)
    if past.rows != table:
        differing = [key for key in past.rows.keys() | table.keys() if past.rows.get(key) != table.get(key)]
        findings.add(
            "false", f"the log of PostgreSQL differs from its table in {len(differing)} tasks: {differing[:3]}"
        )
    _check_answers(findings, log, past)
    _check_moves(findings, log, past)
    for copy in copies:
        _check_copy(findings, copy, table)
    return findings


class _Past:
    """What was committed, one change after the other, each explained by the one operation that may have made it."""

    def __init__(self, findings: Findings, log: Log) -> None:
        self.rows: dict[Key, Row] = {}
        self.versions: dict[tuple[UUID, UUID, int], Row] = {}
        self.applied: defaultdict[str, list[int]] = defaultdict(list)
        """The versions that each operation with values made, by its marker."""
        self.moves: defaultdict[Key, list[tuple[str, int]]] = defaultdict(list)
        """The deletions and restores of each task, with their versions."""
        self.erased: set[Key] = set()
        self.purged: set[Key] = set()
        """The tasks whose tombstones were removed. Nobody knows a repeat of an operation on them."""
        self._findings, self._log = findings, log
        self._last: dict[UUID, tuple[int, int]] = {}
        """The newest version of each owner, and the number of its commit."""

    def follow(self, change: Change) -> None:
        key, row = (change.user_id, change.id), change.row
        before = self.rows.get(key)
        if row is None:
            if before is not None and not before.erased:
                self._findings.add("lost", f"a task that was not erased is gone: {before}")
            self.rows.pop(key, None)
            self.purged.add(key)
            return
        self.rows[key] = row
        if before is not None and before.version == row.version:
            if before != row:
                self._findings.add("disordered", f"a change without a new version: {before}, {row}")
            return
        self._findings.writes += 1
        self.versions[*key, row.version] = row
        newest, commit = self._last.get(change.user_id, (0, 0))
        # One statement may change many tasks, which then have one version.
        if row.version < newest or (row.version == newest and commit != change.commit):
            self._findings.add("disordered", f"version {row.version} was committed after {newest}: {row}")
        self._last[change.user_id] = max(newest, row.version), change.commit
        self._explain(before, row)

    def _explain(self, before: Row | None, row: Row) -> None:
        key = (row.user_id, row.id)
        if row.erased:
            self.erased.add(key)
            if before is None or before.is_live:
                self._findings.add("lost", f"a task was erased that was not in the trash: {before}, {row}")
        elif before is not None and before.erased:
            self._findings.add("resurrected", f"an erased task is back: {row}")
        elif before is not None and before.is_live != row.is_live:
            self.moves[key].append(("restore" if row.is_live else "delete", row.version))
            if before.title != row.title:
                self._findings.add("resurrected", f"a move to or from the trash changed a task: {before}, {row}")
        else:
            self._write(before, row)

    def _write(self, before: Row | None, row: Row) -> None:
        operation = self._log.writers.get(row.title)
        if operation is None or operation.user_id != row.user_id or (operation.kind == "create") != (before is None):
            self._findings.add("false", f"nobody wrote this: {before}, {row}; the title is of {operation}")
            return
        if operation.state is State.FAILED:
            self._findings.add("false", f"a refused write was done: {operation}")
        if operation.task_id not in {None, row.id}:
            self._findings.add("doubled", f"a write to another task: {operation}, {row}")
        elif operation.marker in self.applied and not self._is_forgotten(operation, row):
            self._findings.add("doubled", f"done in {self.applied[operation.marker]} and {row.version}: {operation}")
        elif operation.expected is not None and before and before.version != operation.expected:
            self._findings.add("lost", f"a change to version {operation.expected} met {before.version}: {operation}")
        if not row.is_live:
            self._findings.add("false", f"a write to the trash: {operation}, {row}")
        self.applied[operation.marker].append(row.version)

    def _is_forgotten(self, operation: Operation, row: Row) -> bool:
        """True if nobody could know that it was a repeat."""
        return (row.user_id, row.id) in self.purged and operation.attempts > 1


def _check_answers(findings: Findings, log: Log, past: _Past) -> None:
    for version, row in log.seen.items():
        if past.versions.get(version) != row:
            findings.add("false", f"an answer shows {row}, and the database had {past.versions.get(version)}")
    for text in log.faults:
        findings.add("false", text)
    for operation in log.operations:
        for text in operation.faults:
            findings.add("false", f"{text}: {operation}")
        if operation.state is not State.ACKNOWLEDGED:
            continue
        if operation.kind == "erase" and (operation.user_id, operation.task_id) not in past.erased:
            findings.add("lost", f"never done: {operation}")
        if operation.is_write and operation.version is not None:
            _check_acknowledged(findings, operation, operation.version, past)


def _check_moves(findings: Findings, log: Log, past: _Past) -> None:
    """Compares the deletions and restores of each task, which leave no mark in it, with those that were asked for."""
    asked: Counter[tuple[str, UUID, UUID | None]] = Counter()
    for operation in log.operations:
        if operation.kind in {"delete", "restore"}:
            asked[operation.kind, operation.user_id, operation.task_id] += _times(operation)
    for key in past.moves.keys() - past.purged:
        for kind, number in Counter(kind for kind, _ in past.moves[key]).items():
            if (surplus := number - asked[kind, *key]) > 0:
                fault: Fault = "resurrected" if kind == "restore" else "doubled"
                findings.add(fault, f"task {key[1]}: {surplus} times {kind} too often: {past.moves[key]}")


def _check_acknowledged(findings: Findings, operation: Operation, version: int, past: _Past) -> None:
    if operation.kind in WITH_VALUES:
        versions = past.applied.get(operation.marker, [])
    else:
        moves = past.moves[operation.user_id, operation.task_id] if operation.task_id else []
        versions = [made for kind, made in moves if kind == operation.kind]
    # A repeat is answered with the task as it is by then.
    if not any(made == version or (operation.attempts > 1 and made < version) for made in versions):
        findings.add("lost", f"answered with version {version}, and not done in it: {operation}")


def _times(operation: Operation) -> int:
    """The number of times that a deletion or a restore may have been done."""
    is_done = operation.state is State.ACKNOWLEDGED
    if operation.key is not None or operation.expected is not None:
        return int(is_done or operation.unknown_attempts > 0)
    return is_done + operation.unknown_attempts


def _check_copy(findings: Findings, copy: Copy, table: Mapping[Key, Row]) -> None:
    for text in copy.faults:
        findings.add("disordered", f"{copy.name}: {text}")
    rows = {task_id: row for (user_id, task_id), row in table.items() if user_id == copy.user_id}
    for task_id in rows.keys() | copy.items.keys():
        row, item = rows.get(task_id), copy.items.get(task_id)
        # A tombstone that the reader never needed, or that was purged after the reader had it.
        is_needless = (item is None and row and not row.is_live) or (row is None and item and not item.is_live)
        if row != item and not is_needless:
            findings.add("missed", f"{copy.name} has {item}, and the database {row}")
