"""A task in the model, and how it is shown."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.support.contract import Json
from tests.support.model.values import DEFAULTS

type Key = tuple[str, str]
"""The owner and the id. An id is unique only among the tasks of its owner."""

ERASED: Json = DEFAULTS | {"title": "(erased)"}
"""The values of a tombstone."""


@dataclass(frozen=True)
class Task:
    """`values` are those that a client decides about.

    It is live, or in the trash since `deleted_at`, or a tombstone.
    """

    key: Key
    values: Json
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    version: int
    deleted_at: datetime | None = None
    is_erased: bool = False
    applied: tuple[str, ...] = ()
    """The last changes that were sent with a key, with their keys, the newest first."""

    @property
    def is_live(self) -> bool:
        return self.deleted_at is None

    @property
    def is_trashed(self) -> bool:
        return self.deleted_at is not None and not self.is_erased

    @property
    def completed(self) -> bool:
        return bool(self.values["status"] == "completed")

    @property
    def is_overdue(self) -> bool:
        due_date = self.values["due_date"]
        return due_date is not None and due_date < datetime.now(UTC) and not self.completed

    @property
    def etag(self) -> str:
        return f'"{self.version}"'

    @property
    def row(self) -> Json:
        """Everything that is stored, by the name of its column."""
        user, task_id = self.key
        known = {name: getattr(self, name) for name in ("created_at", "updated_at", "completed_at", "version")}
        return {"id": task_id, "user_id": user, **self.values, **known}

    def shown(self) -> Json:
        return {name: _written(value) for name, value in self.row.items()} | {"completed": self.completed}

    def shown_as_trash(self) -> Json:
        return self.shown() | {"deleted_at": _written(self.deleted_at)}

    def shown_as_change(self) -> Json:
        return self.shown_as_trash() | {"erased": self.is_erased}


def _written(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case tuple():
            return list(value)
    return value
