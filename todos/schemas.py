"""What clients send and get. None of these shares a base class with a table: a table's columns must never leak.

They are plain pydantic, because Ninja's own `Schema` would also take objects apart by their attributes.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import MISSING, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from persistence.models import Priority, Status
from persistence.tasks import PriorityName, StatusName, TaskPatch, TaskValues
from todos.types import Completed, Description, DueDate, Id, Tags, Title

# A factory, because Ninja cannot write MISSING itself into the OpenAPI document as a default.
_OMITTED = Field(default_factory=lambda: MISSING)


def _said_status(status: StatusName | MISSING, completed: bool | MISSING) -> StatusName | MISSING:
    """`completed` is another way to say `status`; both may be sent if they agree (D5)."""
    if completed is MISSING:
        return status
    said: StatusName = "completed" if completed else "pending"
    if status is not MISSING and status != said:
        raise PydanticCustomError(
            "status_contradiction",
            "`status` says {status} and `completed` says {said}; send one of them, or both alike",
            {"status": status, "said": said},
        )
    return said


def _says(status: StatusName, *, completed: bool) -> dict[str, Any]:
    properties = {"status": {"const": status}, "completed": {"const": completed}}
    return {"required": ["status", "completed"], "properties": properties}


class _TaskInput(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "not": {"anyOf": [_says("pending", completed=True), _says("completed", completed=False)]},
        },
    )

    status: StatusName | MISSING = _OMITTED
    completed: Completed | MISSING = _OMITTED

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _said_status(self.status, self.completed)
        return self


class TaskReplacement(_TaskInput):
    """The body of PUT: what is left out goes to its default (D22). The due date may be past: tasks get overdue (D8)."""

    title: Title
    description: Description | None = None
    priority: PriorityName = Priority.MEDIUM.value
    due_date: DueDate | None = None
    tags: Tags = []

    def values(self) -> TaskValues:
        status = _said_status(self.status, self.completed)
        return {
            "title": self.title,
            "description": self.description,
            "status": Status.PENDING.value if status is MISSING else status,
            "priority": self.priority,
            "due_date": self.due_date,
            "tags": self.tags,
        }


class NewTask(TaskReplacement):
    """The body of POST; the due date may not be past (D8), except in a repeat of what was created in time."""

    id: Id | MISSING = _OMITTED

    @property
    def chosen_id(self) -> UUID | None:
        return None if self.id is MISSING else self.id

    @property
    def is_late(self) -> bool:
        return self.due_date is not None and self.due_date < datetime.now(UTC)


class TaskChanges(_TaskInput):
    """The body of PATCH: what is left out stays as it is, and null clears what can be empty (D22)."""

    title: Title | MISSING = _OMITTED
    description: Description | MISSING | None = _OMITTED
    priority: PriorityName | MISSING = _OMITTED
    due_date: DueDate | MISSING | None = _OMITTED
    tags: Tags | MISSING = _OMITTED

    def values(self) -> TaskPatch:
        changes = TaskPatch()
        for name in self.model_fields_set - {"status", "completed"}:
            changes[name] = getattr(self, name)  # type: ignore[literal-required] # both have these names
        status = _said_status(self.status, self.completed)
        if status is not MISSING:
            changes["status"] = status
        return changes


class TaskOut(BaseModel):
    """A task as the API shows it; `persistence.tasks.TaskRow` is where it comes from. Times are in UTC."""

    id: UUID
    user_id: UUID
    title: str
    description: str | None
    status: StatusName
    completed: bool
    priority: PriorityName
    due_date: datetime | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    version: Annotated[int, Field(json_schema_extra={"format": "int64", "minimum": 1})]


class TaskPage(BaseModel):
    """`next_cursor` is what to send as `cursor` for the next page, null on the last one (D24)."""

    items: list[TaskOut]
    next_cursor: str | None


_Count = Annotated[int, Field(ge=0)]


class StatusCounts(BaseModel):
    pending: _Count
    completed: _Count


class PriorityCounts(BaseModel):
    low: _Count
    medium: _Count
    high: _Count


class TaskSummary(BaseModel):
    """How many tasks a user has, in all and of each kind."""

    total: _Count
    status: StatusCounts
    priority: PriorityCounts
    tags: Annotated[dict[str, _Count], Field(description="Every tag that occurs.")]
    overdue: Annotated[_Count, Field(description="Pending tasks whose due date has passed.")]


class HealthData(BaseModel):
    status: Literal["healthy", "unhealthy"]
    database: Literal["connected", "disconnected"]
    migration: Literal["up-to-date", "behind", "unknown"]


class Health(BaseModel):
    status_code: Literal[200, 503]
    message: str
    data: HealthData


class Liveness(BaseModel):
    status: Literal["alive"]


class FieldErrorOut(BaseModel):
    """What is wrong with one value."""

    field: Annotated[
        str,
        Field(
            description="The path of the value in the body (`tags.1` is the second tag), the name of a parameter or "
            "header, or `body` for all of it."
        ),
    ]
    detail: Annotated[str, Field(description="What is wrong and how to mend it, for people.")]


class ProblemOut(BaseModel):
    """A problem document (RFC 9457)."""

    type: Annotated[str, Field(description="Which problem this is, the one member to decide by in code.")]
    title: Annotated[str, Field(description="The same for every problem of this type.")]
    status: Annotated[int, Field(description="The status code again.")]
    detail: Annotated[str, Field(description="What happened this time, for people.")]
    errors: Annotated[
        list[FieldErrorOut] | MISSING, Field(description="Only for invalid values: what is wrong with each.")
    ] = _OMITTED
