"""One state of a task, in the one form that answers of the API, the log of PostgreSQL and its table are compared in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

DELETED = ("deleted_at", "erased")
"""Fields that only the feed and the trash show. An answer without them is about a live task."""


class Row(NamedTuple):
    user_id: UUID
    id: UUID
    version: int
    title: str
    description: str | None
    status: str
    priority: str
    due_date: datetime | None
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    deleted_at: datetime | None
    erased: bool

    @property
    def is_live(self) -> bool:
        return self.deleted_at is None

    @classmethod
    def of_item(cls, item: Mapping[str, Any]) -> Self:
        """The state that an answer of the API shows."""
        values = {name: item.get(name) if name in DELETED else item[name] for name in cls._fields}
        return cls._of(values, erased=bool(values["erased"]))

    @classmethod
    def of_text(cls, texts: Mapping[str, str | None]) -> Self:
        """The state of PostgreSQL's output: ISO 8601, and an array of tags that need no quotes."""
        tags = (texts["tags"] or "").strip("{}")
        values = {**texts, "tags": tags.split(",") if tags else []}
        return cls._of(values, erased=texts["is_erased"] in {"t", "true"})

    @classmethod
    def _of(cls, values: Mapping[str, Any], *, erased: bool) -> Self:
        return cls(
            UUID(values["user_id"]),
            UUID(values["id"]),
            int(values["version"]),
            values["title"],
            values["description"],
            values["status"],
            values["priority"],
            _moment(values["due_date"]),
            tuple(values["tags"]),
            datetime.fromisoformat(values["created_at"]),
            datetime.fromisoformat(values["updated_at"]),
            _moment(values["completed_at"]),
            _moment(values["deleted_at"]),
            erased,
        )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
