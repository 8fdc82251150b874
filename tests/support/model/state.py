"""All that the server must remember in the model, and what a write does to it, whichever request asks for it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.support.contract import Json
from tests.support.model.answers import NO_STORE, Choice, Refused
from tests.support.model.tasks import ERASED, Key, Task
from tests.support.model.values import is_right, uuid

_A_MICROSECOND = timedelta(microseconds=1)
_KEYS_KEPT = 8
type Edit = Callable[[Task], Task]


class State:
    """The tasks of these users, those in the trash and the tombstones included."""

    def __init__(self, users: Iterable[str]) -> None:
        self.users = frozenset(users)
        self.tasks: dict[Key, Task] = {}
        self.revisions = dict.fromkeys(self.users, 0)
        """The greatest version that a task of each user ever had."""
        self.horizons = dict.fromkeys(self.users, 0)
        """Tombstones up to this version may be gone."""
        self._ids: set[Key] = set()
        self._keys: dict[Key, str] = {}
        """The id that an Idempotency-Key of a user stands for."""
        self._cursors: dict[str, tuple[Any, Any]] = {}
        """What each cursor belongs to, and its position there."""

    def keep(self, task: Task) -> None:
        owner, _ = task.key
        self.tasks[task.key] = task
        self._ids.add(task.key)
        self.revisions[owner] = max(self.revisions[owner], task.version)

    def of(self, user: str) -> list[Task]:
        return [task for (owner, _), task in self.tasks.items() if owner == user]

    def live_of(self, user: str) -> list[Task]:
        return [task for task in self.of(user) if task.is_live]

    def trash_of(self, user: str) -> list[Task]:
        return [task for task in self.of(user) if task.is_trashed]

    def live(self, user: str, task_id: str) -> Task:
        task = self.tasks.get((uuid(user), uuid(task_id)))
        if task is None or not task.is_live:
            # Another user's task, a deleted and a missing one look the same.
            raise Refused(404, "task-not-found")
        return task

    def create(self, owner: str, task_id: str | None, values: Json, choice: Choice) -> tuple[Task, bool]:
        """The task, and whether it was there already: then nothing changes, whatever the values are."""
        if there := self.tasks.get((owner, task_id or "")):
            if not there.is_live:
                raise Refused(409, "task-deleted")
            return there, True
        if owner not in self.users:
            raise Refused(404, "user-not-found")
        at = choice.time
        key = owner, task_id or self._new_id(owner, choice)
        task = Task(key, values, at, at, at if values["status"] == "completed" else None, self._next(owner, choice))
        self.keep(task)
        return task, False

    def change(
        self, op: str, key: Key, edit: Edit, if_match: list[str] | None, idempotency_key: str | None, choice: Choice
    ) -> tuple[Task, bool]:
        """The task after a write, and whether the write is a repeat: then this is how the task is now.

        A write is a repeat if the task remembers its key, whatever its condition says. A task that was deleted after
        the write is not found, unless the write is its deletion.
        """
        task, mark = self.tasks.get(key), f"{op} {idempotency_key}"
        is_repeat = task is not None and idempotency_key is not None and mark in task.applied
        if task and is_repeat and (task.is_live or op == "delete"):
            return task, True
        if task is None or is_repeat or not (task.is_trashed if op == "restore" else task.is_live):
            raise Refused(404, "task-not-found")
        refuse_other_versions(task, if_match)
        new = edit(self.touched(task, choice))
        if idempotency_key is not None:
            new = replace(new, applied=(mark, *task.applied)[:_KEYS_KEPT])
        self.keep(new)
        return new, False

    def touched(self, task: Task, choice: Choice) -> Task:
        """Every write counts, also one that says what was there already."""
        owner, _ = task.key
        at = max(choice.time, task.updated_at + _A_MICROSECOND)
        return replace(task, updated_at=at, version=self._next(owner, choice))

    def erase(self, tasks: Iterable[Task], choice: Choice) -> None:
        """Leaves tombstones, which have no data. They are one change, so all of one owner have one version."""
        touched = [self.touched(task, choice.of(task.key[1])) for task in tasks]
        version = max((task.version for task in touched), default=0)
        for task in touched:
            self.keep(replace(task, version=version, values=ERASED, completed_at=None, is_erased=True, applied=()))

    def bury(self, tasks: Iterable[Task]) -> None:
        """Forgets tombstones, and with them that there ever was something."""
        for task in tasks:
            owner, _ = task.key
            del self.tasks[task.key]
            self.horizons[owner] = max(self.horizons[owner], task.version)

    def point_at(self, cursor: str, belongs_to: Any, position: Any) -> str:
        self._cursors[cursor] = belongs_to, position
        return cursor

    def position(self, cursor: str, belongs_to: Any) -> Any:
        of, position = self._cursors.get(cursor, (None, None))
        if of is None or of != belongs_to:
            raise Refused(400, "invalid-input", "cursor")
        return position

    def _new_id(self, owner: str, choice: Choice) -> str:
        is_free = is_right(uuid, choice.id) and (owner, choice.id) not in self._ids
        return choice.id if choice.id and is_free else "a new id"

    def _next(self, owner: str, choice: Choice) -> int:
        """A version is greater than all that tasks of its owner have ever had."""
        return max(choice.version, self.revisions[owner] + 1)


def refuse_other_versions(task: Task, if_match: list[str] | None) -> None:
    """Without the condition the last write wins. Weak tags never match here."""
    if if_match is not None and not {"*", task.etag} & set(if_match):
        raise Refused(412, "precondition-failed", headers={"ETag": task.etag})


def edited(values: Json) -> Edit:
    """Sets `completed_at` when the task becomes completed, keeps it while it stays so, clears it when reopened."""

    def edit(task: Task) -> Task:
        new = replace(task, values=task.values | values)
        return replace(new, completed_at=(task.completed_at or task.updated_at) if new.completed else None)

    return edit


def deleted(task: Task) -> Task:
    return replace(task, deleted_at=task.updated_at)


def restored(task: Task) -> Task:
    return replace(task, deleted_at=None)


def headers_of(task: Task, *, replayed: bool = False) -> dict[str, str]:
    return NO_STORE | {"ETag": task.etag} | ({"Idempotency-Replayed": "true"} if replayed else {})
