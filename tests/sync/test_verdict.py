"""The comparison tells each kind of fault in a made-up past from one that is whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from tests.faults.history import Kind, Operation
from tests.faults.http import Answer
from tests.sync.commits import Change
from tests.sync.log import Log
from tests.sync.rows import Row
from tests.sync.verdict import Fault, Findings, Key, check

MOVES: tuple[Kind, ...] = ("delete", "erase")
EPOCH = datetime(2026, 11, 30, tzinfo=UTC)


@dataclass
class Copy:
    name: str
    user_id: UUID
    items: dict[UUID, Row] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class World:
    """Clients, a database and a reader that a test makes do what no server would do."""

    def __init__(self) -> None:
        self.log, self.user = Log(), uuid4()
        self.changes: list[Change] = []
        self.table: dict[Key, Row] = {}
        self.copy = Copy("the reader", self.user)
        self._versions, self._commits = count(1), count(1)
        self.log.users.add(self.user)

    def invoke(self, kind: Kind, task_id: UUID | None = None, **more: Any) -> Operation:
        operation = self.log.invoke(1, self.user, kind, task_id=task_id or uuid4(), **more)
        operation.attempts = 1
        return operation

    def commit(self, operation: Operation, **values: Any) -> Row:
        """Does the operation in the database, with other values if there are some."""
        assert operation.task_id
        values = {"version": next(self._versions), **_moved(operation.kind), **values}
        if operation.body:
            values |= {"title": operation.marker, "description": operation.marker}
        before = self.table.get((self.user, operation.task_id)) or _new(self.user, operation.task_id)
        return self.write(before._replace(updated_at=EPOCH + timedelta(seconds=values["version"]), **values))

    def write(self, row: Row) -> Row:
        self.changes.append(Change(next(self._commits), row.user_id, row.id, row))
        self.table[row.user_id, row.id] = row
        return row

    def remove(self, row: Row) -> None:
        self.changes.append(Change(next(self._commits), row.user_id, row.id, None))
        self.table.pop((row.user_id, row.id), None)

    def answer(self, operation: Operation, row: Row | None, status: int = 200) -> None:
        self.log.record(operation, Answer(status, {}, orjson.dumps(_item(row)) if row else b"", 0.0))

    def do(self, kind: Kind, row: Row | None = None, **more: Any) -> tuple[Operation, Row]:
        """Does an operation as a right server does, and shows it to the reader."""
        operation = self.invoke(kind, row.id if row else None, **more)
        done = self.commit(operation)
        self.answer(operation, done if kind != "erase" else None, 200 if kind != "erase" else 204)
        self.copy.items[done.id] = done
        return operation, done

    def check(self) -> Findings:
        return check(self.log, self.changes, self.table, [self.copy])


def _new(user_id: UUID, task_id: UUID) -> Row:
    return Row(user_id, task_id, 0, "", "", "pending", "low", None, ("a",), EPOCH, EPOCH, None, None, False)


def _moved(kind: str) -> dict[str, Any]:
    erased = {"deleted_at": EPOCH, "erased": True, "title": "(erased)", "description": None, "tags": ()}
    moved: dict[str, dict[str, Any]]
    moved = {"delete": {"deleted_at": EPOCH}, "restore": {"deleted_at": None}, "erase": erased}
    return moved.get(kind, {})


def _item(row: Row) -> Any:
    """The task as an answer shows it."""
    return orjson.loads(orjson.dumps(row._asdict()))


@pytest.fixture
def world() -> World:
    return World()


def test_a_whole_past_has_no_fault(world: World) -> None:
    _, row = world.do("create")
    _, row = world.do("replace", row)
    _, row = world.do("patch", row, expected=row.version, key="k")
    _, row = world.do("delete", row)
    _, row = world.do("restore", row)
    _, row = world.do("delete", row)
    _, row = world.do("erase", row)
    world.remove(row)
    # What the reader has of it is a tombstone, and of the other task nothing, as it began when that was in the trash.
    _, row = world.do("create")
    world.do("delete", row)
    del world.copy.items[row.id]

    assert world.check() == Findings(writes=9)


def test_an_attempt_whose_outcome_is_unknown_may_have_been_made_or_not(world: World) -> None:
    _, row = world.do("create")
    for kind in ("patch", "delete", "restore"):
        operation = world.invoke(kind, row.id)
        world.log.mark_unknown(operation)
        world.copy.items[row.id] = world.commit(operation)
        world.log.mark_unknown(world.invoke(kind, row.id))

    assert world.check() == Findings(writes=4)


def test_a_repeat_that_is_answered_with_a_later_state_was_done_once(world: World) -> None:
    created, row = world.do("create")
    patched = world.invoke("patch", row.id, key="k")
    world.log.mark_unknown(patched)
    world.commit(patched)
    _, row = world.do("patch", row)
    for operation in (created, patched):
        operation.attempts += 1
        world.answer(operation, row)

    assert world.check() == Findings(writes=3)


def test_what_was_acknowledged_stays_so_when_a_repeat_is_refused_or_cut(world: World) -> None:
    created, row = world.do("create")
    world.do("delete", row)
    world.answer(created, None, 409)
    world.log.refuse(created)
    world.log.mark_unknown(created)

    assert world.check() == Findings(writes=2)


def test_a_repeat_of_a_create_after_the_purge_of_its_tombstone_makes_it_anew(world: World) -> None:
    created, row = world.do("create")
    for kind in MOVES:
        _, row = world.do(kind, row)
    world.remove(row)
    world.commit(created)
    deletion = world.log.operations[1]
    for operation in (created, deletion):
        operation.attempts += 1
    world.copy.items[row.id] = world.commit(deletion)

    assert world.check() == Findings(writes=5)


def skip(world: World, row: Row) -> None:
    world.copy.items[row.id] = row
    world.do("patch", row)
    world.copy.items[row.id] = row


def keep_deleted(world: World, row: Row) -> None:
    world.do("delete", row)
    world.copy.items[row.id] = row


def keep_purged(world: World, row: Row) -> None:
    _, deleted = world.do("delete", row)
    _, erased = world.do("erase", deleted)
    world.remove(erased)
    world.copy.items[row.id] = row


def forget(world: World, row: Row) -> None:
    del world.copy.items[row.id]


def lose_create(world: World, row: Row) -> None:
    world.answer(world.invoke("create"), row._replace(id=uuid4()))


def lose_patch(world: World, row: Row) -> None:
    world.answer(world.invoke("patch", row.id), row)


def do_it_later(world: World, row: Row) -> None:
    operation = world.invoke("patch", row.id)
    world.answer(operation, world.commit(world.invoke("patch", row.id)))
    world.copy.items[row.id] = world.commit(operation)


def do_it_before(world: World, row: Row) -> None:
    operation = world.invoke("patch", row.id)
    world.commit(operation)
    _, row = world.do("patch", row)
    world.answer(operation, row)


def lose_move(world: World, row: Row) -> None:
    world.answer(world.invoke("delete", row.id), row)


def lose_erasure(world: World, row: Row) -> None:
    world.answer(world.invoke("erase", row.id), None, 204)


def overwrite_unseen(world: World, row: Row) -> None:
    world.do("patch", row)
    world.do("patch", row, expected=row.version)


def remove_unasked(world: World, row: Row) -> None:
    world.remove(row)
    del world.copy.items[row.id]


def erase_live(world: World, row: Row) -> None:
    world.do("erase", row)


def patch_twice(world: World, row: Row) -> None:
    patched, _ = world.do("patch", row, key="k")
    world.do("patch", row)
    world.copy.items[row.id] = world.commit(patched)


def patch_twice_at_once(world: World, row: Row) -> None:
    patched, _ = world.do("patch", row, key="k")
    world.copy.items[row.id] = world.commit(patched)


def delete_twice(world: World, row: Row) -> None:
    deletion = world.invoke("delete", row.id, key="k")
    world.log.mark_unknown(deletion)
    world.answer(deletion, world.commit(deletion))
    world.do("restore", row)
    world.copy.items[row.id] = world.commit(deletion)


def create_twice(world: World, row: Row) -> None:
    created, _ = world.do("create", key="k")
    twin = world.commit(created, id=uuid4())
    world.copy.items[twin.id] = twin


def create_anew(world: World, row: Row) -> None:
    for kind in MOVES:
        _, row = world.do(kind, row)
    world.remove(row)
    world.copy.items[row.id] = world.commit(world.log.operations[0])


def restore_otherwise(world: World, row: Row) -> None:
    world.do("delete", row)
    restored = world.invoke("restore", row.id)
    world.copy.items[row.id] = world.commit(restored, title="Another")
    world.answer(restored, world.copy.items[row.id])


def revive(world: World, row: Row) -> None:
    world.do("delete", row)
    world.copy.items[row.id] = world.commit(world.log.operations[0], **_moved("restore"))


def restore_twice(world: World, row: Row) -> None:
    world.do("delete", row)
    restored, _ = world.do("restore", row, key="k")
    world.do("delete", row)
    world.copy.items[row.id] = world.commit(restored)


def revive_erased(world: World, row: Row) -> None:
    for kind in MOVES:
        world.do(kind, row)
    world.copy.items[row.id] = world.write(row._replace(version=50))


def commit_late(world: World, row: Row) -> None:
    first, second = world.invoke("patch", row.id), world.invoke("create")
    late = world.commit(first, version=60)
    world.answer(first, late)
    early = world.commit(second, version=59)
    world.answer(second, early)
    world.copy.items |= {late.id: late, early.id: early}


def share_version(world: World, row: Row) -> None:
    _, other = world.do("create")
    operation = world.invoke("patch", row.id)
    world.copy.items[row.id] = world.commit(operation, version=other.version)
    world.answer(operation, world.copy.items[row.id])


def keep_version(world: World, row: Row) -> None:
    world.copy.items[row.id] = world.write(row._replace(priority="high"))


def show_out_of_order(world: World, row: Row) -> None:
    world.copy.faults.append("an item came after a later one")


def show_other_content(world: World, row: Row) -> None:
    world.log.see(_item(row._replace(priority="high")))


def show_uncommitted(world: World, row: Row) -> None:
    world.log.see(_item(row._replace(version=99)))


def do_refused(world: World, row: Row) -> None:
    refused = world.invoke("patch", row.id)
    world.answer(refused, None, 412)
    world.copy.items[row.id] = world.commit(refused)


def write_from_nowhere(world: World, row: Row) -> None:
    world.copy.items[row.id] = world.write(row._replace(version=99, title="A stranger"))


def write_for_another_user(world: World, row: Row) -> None:
    created = world.log.invoke(1, uuid4(), "create")
    world.log.users.remove(created.user_id)
    world.copy.items[uuid4()] = world.write(row._replace(version=99, id=uuid4(), title=created.marker))


def answer_wrongly(world: World, row: Row) -> None:
    world.log.operations[0].faults.append("the answer is about another task")


def write_in_the_trash(world: World, row: Row) -> None:
    world.do("delete", row)
    world.do("patch", row)


def hide_from_the_log(world: World, row: Row) -> None:
    changed = row._replace(priority="high")
    world.table[world.user, row.id] = world.copy.items[row.id] = changed


FAULTS: Mapping[Fault, Sequence[Callable[[World, Row], None]]] = {
    "missed": (skip, keep_deleted, keep_purged, forget),
    "lost": (do_it_later, do_it_before, lose_create, lose_patch, lose_move, lose_erasure, overwrite_unseen,
        remove_unasked, erase_live),
    "doubled": (patch_twice, patch_twice_at_once, delete_twice, create_twice, create_anew),
    "resurrected": (restore_otherwise, revive, restore_twice, revive_erased),
    "disordered": (commit_late, share_version, keep_version, show_out_of_order),
    "false": (show_other_content, show_uncommitted, do_refused, answer_wrongly, write_for_another_user,
        write_from_nowhere, write_in_the_trash, hide_from_the_log),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "make"),
    [pytest.param(fault, make, id=f"{fault} {make.__name__}") for fault, makes in FAULTS.items() for make in makes],
)
def test_each_fault_is_found(world: World, fault: Fault, make: Callable[[World, Row], None]) -> None:
    _, row = world.do("create")
    make(world, row)

    assert fault in world.check().counts, world.check().faults
