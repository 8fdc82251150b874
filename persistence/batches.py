"""Many writes of one owner in one transaction and one round trip (docs/adr/0034-batches.md).

The statements are those of single writes. The row of the owner is locked before them, so that no other write of the
owner comes in between: batches cannot deadlock, and what the last statement reads is what the writes have met.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from persistence import tasks
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from persistence.tasks import (
    AlreadyDeleted,
    Change,
    OwnerErased,
    RacedPast,
    TaskRow,
    TaskStep,
    TooMany,
    VersionChanged,
    Versions,
)

# FOR NO KEY UPDATE, which does not hold up the check of a foreign key.
LOCK_OWNER = Statement(
    "lock_owner",
    sa.select(tasks.OWNERS.c.is_erased).where(tasks.OWNERS.c.id == tasks.USER_ID).with_for_update(key_share=True),
)

_SHOWN = (*(str(column.key) for column in tasks.COLUMNS), "deleted_at")


@dataclass(frozen=True, slots=True)
class Write:
    """One item of a batch. `values` are all those of a new or a replaced task, or those that a patch changes."""

    op: Literal["create"] | Change
    task_id: UUID
    values: Mapping[str, Any] = field(default_factory=dict)
    versions: Versions = None
    key: str | None = None

    @property
    def only_reads(self) -> bool:
        return self.op == "patch" and not self.values

    def step(self, user_id: UUID, tasks_max: int) -> TaskStep:
        if self.op == "create":
            return tasks.creating(user_id, self.values, self.task_id, tasks_max)
        return tasks.changing(
            self.op, user_id, self.task_id, self.values, self.versions, key=self.key, tasks_max=tasks_max
        )


type Refusal = AlreadyDeleted | OwnerErased | RacedPast | TooMany | VersionChanged


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a write. Without a task and a refusal there is no such task, or no owner for a new one."""

    task: TaskRow | None = None
    """The task as it is now, with the column `deleted_at` besides."""
    refusal: Refusal | None = None
    is_repeat: bool = False
    """The write has been made before, so nothing was written now."""


async def run(
    database: Database, user_id: UUID, writes: Sequence[Write], *, makes_owner: bool = False, tasks_max: int = 0
) -> list[Outcome]:
    """Commits all writes together, and returns their outcomes in the same order. Each write names another task.

    One round trip; a second one makes the owner if there is none and `makes_owner` asks for one, as in `tasks.create`.
    """
    if not writes:
        return []
    started, owner = monotonic(), {"user_id": user_id}
    steps = [(write, write.step(user_id, tasks_max)) for write in writes]
    sent = {write.task_id: step for write, step in steps if not write.only_reads}
    unclear = [
        (write.task_id, step.values.get("key"))
        for write, step in steps
        if write.only_reads or (write.op != "create" and step.may_be_explained)
    ]
    together = [(LOCK_OWNER, owner), *sent.values()]
    if unclear:
        ids, keys = zip(*unclear, strict=True)
        together.append((tasks.STATES, owner | {"ids": list(ids), "keys": list(keys)}))
    owners, *answers = await database.together(together, turn=user_id)
    if makes_owner and not owners and any(write.op == "create" for write in writes):
        together.insert(0, (tasks.MAKE_OWNER, owner))
        _, owners, *answers = await database.together(together, database.time_left(started), turn=user_id)
    written = {task_id: rows[0] for task_id, rows in zip(sent, answers, strict=False) if rows}
    found = {row["id"]: row for row in answers[-1]} if unclear else {}
    return [
        _created(written.get(write.task_id), owners)
        if write.op == "create"
        else _changed(write, step, written.get(write.task_id), found.get(write.task_id))
        for write, step in steps
    ]


def _created(row: TaskRow | None, owners: Sequence[Mapping[str, Any]]) -> Outcome:
    if row is None:
        return Outcome(refusal=(OwnerErased() if owners[0]["is_erased"] else TooMany()) if owners else None)
    if row["deleted_at"] is None:
        return Outcome(_shown(row), is_repeat=row["replayed"])
    return Outcome(None if row["is_erased"] else _shown(row), AlreadyDeleted())


def _changed(write: Write, step: TaskStep, row: TaskRow | None, found: TaskRow | None) -> Outcome:
    if row:
        return Outcome(_shown(row))
    try:
        earlier = step.explain(found)
    except TooMany as refusal:
        return Outcome(refusal=refusal)
    except (RacedPast, VersionChanged) as refusal:
        assert found
        # A patch without changes had only to read the task.
        is_answer = write.only_reads and isinstance(refusal, RacedPast)
        return Outcome(_shown(found), None if is_answer else refusal)
    return Outcome(_shown(earlier), is_repeat=True) if earlier else Outcome()


def _shown(row: TaskRow) -> TaskRow:
    return {name: row.get(name) for name in _SHOWN}
