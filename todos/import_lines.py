"""One task of a file to import: whether it may be one of this user, and what the answer says of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from persistence.models import TITLE_MAX_LENGTH
from persistence.tasks import TaskRow
from todos.errors import FieldError
from todos.faults import field_error
from todos.formats.drafts import Draft
from todos.schemas import FieldErrorOut, TaskReplacement
from todos.types import Id, Timestamp

ERRORS_SHOWN = 10
"""Faults of one line that an answer has at most."""

type LineStatus = Annotated[
    Literal["imported", "known", "deleted", "refused"], Field(description="What became of a task of a file.")
]


class ImportedTask(TaskReplacement):
    """A task with times that no client could choose, and whose due date may have passed."""

    id: Id | None = None
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    deleted_at: Timestamp | None = None

    @model_validator(mode="after")
    def _is_completed(self) -> Self:
        if self.completed_at and self.values()["status"] != "completed":
            raise PydanticCustomError("completed_at_pending", "A pending task has no `completed_at`")
        return self

    def row(self, task_id: UUID, now: datetime) -> TaskRow:
        """The columns to insert."""
        row: TaskRow = {"id": task_id, **self.values()}
        row["created_at"] = self.created_at or now
        row["updated_at"] = self.updated_at or now
        is_completed = row["status"] == "completed"
        row["completed_at"] = (self.completed_at or self.updated_at or now) if is_completed else None
        # The trash is purged by this time.
        row["deleted_at"] = self.deleted_at and min(self.deleted_at, now)
        return row


class ImportLine(BaseModel):
    """One task of a file."""

    line: Annotated[int, Field(description="Where it begins; in JSON that is not in lines, its number.")]
    status: LineStatus
    id: Annotated[UUID | None, Field(description="The id of the task; null if it was refused.")]
    title: str | None
    errors: Annotated[list[FieldErrorOut], Field(description=f"Why it was refused, {ERRORS_SHOWN} reasons at most.")]
    notes: Annotated[list[str], Field(description="What was not taken over as it was.")]


@dataclass
class Line:
    """A task of a file on its way: with a row to insert, or with the reasons why there is none."""

    draft: Draft
    id: UUID
    row: TaskRow | None = None
    errors: list[FieldError] = field(default_factory=list)
    status: LineStatus = "refused"

    @property
    def shown(self) -> dict[str, Any]:
        """An `ImportLine`."""
        title = self.row["title"] if self.row else self.draft.title[:TITLE_MAX_LENGTH]
        return {
            "line": self.draft.line,
            "status": self.status,
            "id": None if self.errors else self.id,
            "title": title or None,
            "errors": self.errors[:ERRORS_SHOWN],
            "notes": [] if self.errors else self.draft.notes,
        }

    def refuse(self, detail: str) -> None:
        self.errors.append({"field": "line", "detail": detail})


def checked(draft: Draft, user_id: UUID, form: str, now: datetime) -> Line:
    """The line, whose id is the same however often the file is sent; `now` stands for times that are not known."""
    # No Idempotency-Key has a space, from which ids are made, too.
    task_id = draft.key if isinstance(draft.key, UUID) else uuid5(user_id, f"import {form} {draft.key}")
    line = Line(draft, task_id, errors=list(draft.errors))
    if not line.errors:
        try:
            line.row = ImportedTask.model_validate(draft.values).row(task_id, now)
        except ValidationError as error:
            line.errors = [field_error(fault["loc"], fault) for fault in error.errors(include_url=False)]
    return line
