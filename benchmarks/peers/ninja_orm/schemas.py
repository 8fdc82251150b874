from datetime import datetime
from typing import Annotated
from uuid import UUID

from django.utils import timezone
from ninja import Schema
from pydantic import AwareDatetime, Field, StringConstraints, field_validator

from benchmarks.peers.orm.models import Priority, Status

Tag = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=10)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=1000)]


class TaskIn(Schema):
    title: Title
    description: Description | None = None
    status: Status = Status.PENDING
    priority: Priority = Priority.MEDIUM
    due_date: AwareDatetime | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=20)

    @field_validator("due_date")
    @classmethod
    def not_in_the_past(cls, value: datetime | None) -> datetime | None:
        if value is not None and value < timezone.now():
            raise ValueError("The due date of a new task cannot be in the past")
        return value


class TaskPatch(Schema):
    title: Title | None = None
    description: Description | None = None
    status: Status | None = None
    priority: Priority | None = None
    due_date: AwareDatetime | None = None
    tags: list[Tag] | None = Field(None, max_length=20)


class TaskOut(Schema):
    id: UUID
    user_id: UUID
    title: str
    description: str | None
    status: Status
    completed: bool
    priority: Priority
    due_date: datetime | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    version: int


class TaskPage(Schema):
    items: list[TaskOut]
    next_cursor: str | None
