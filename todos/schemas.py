"""The bodies that clients send and get. None shares a base class with a table: a table's columns must never leak.

A field of a task stands here once, with its type and its description: `TaskChanges` and `TaskOut` follow from
`TaskReplacement`, and what is stored follows from `persistence.models.TaskValues`. The docstrings are the
descriptions of the contract.

They are plain pydantic, because Ninja's own `Schema` would also take objects apart by their attributes.
"""

from collections.abc import Iterable
from copy import copy
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, StrictBool, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

from persistence.models import (
    DESCRIPTION_MAX_LENGTH,
    TAG_MAX_LENGTH,
    TAGS_MAX_COUNT,
    TITLE_MAX_LENGTH,
    Priority,
    Status,
)
from persistence.task_lists import TAGS_COUNTED
from persistence.tasks import COLUMNS, VALUES
from todos.types import TAGS_SENT_MAX, Description, Id, Tags, Timestamp, Title

_TIMESTAMP = "2026-11-22T04:14:57.069274Z"


def _is(status: Status, *, completed: bool) -> dict[str, Any]:
    properties = {"status": {"const": status}, "completed": {"const": completed}}
    return {"required": ["status", "completed"], "properties": properties}


class _TaskInput(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"not": {"anyOf": [_is("pending", completed=True), _is("completed", completed=False)]}},
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """`completed` is another way to say `status`; both may be sent if they agree (D5)."""
        sent = self._sent("status", "completed")
        if len(sent) == 2 and (sent["status"] == "completed") != sent["completed"]:
            raise PydanticCustomError(
                "status_contradiction",
                "`status` says {status} and `completed` says {completed}; send one of them, or both alike",
                {"status": sent["status"], "completed": "completed" if sent["completed"] else "pending"},
            )
        return self

    def _sent(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}

    def _sent_status(self) -> dict[str, Any]:
        sent = self._sent("status", "completed")
        if "status" in sent or not sent:
            return self._sent("status")
        return {"status": "completed" if sent["completed"] else "pending"}


class TaskReplacement(_TaskInput):
    """All values of a task. What is left out goes to its default, as in a new task."""

    title: Annotated[
        Title,
        Field(
            description=f"What is to be done: 1 to {TITLE_MAX_LENGTH} characters, not counting space around it, which "
            "is dropped. One of them can be seen.",
            examples=["Buy milk"],
        ),
    ]
    description: Annotated[
        Description | None,
        Field(
            description=f"More about it, at most {DESCRIPTION_MAX_LENGTH} characters, or null.", examples=["Two litres"]
        ),
    ] = None
    status: Annotated[
        Status,
        Field(description="Whether it is done.", examples=["pending"]),
    ] = "pending"
    completed: Annotated[
        StrictBool,
        Field(description="Another way to say `status`; both may be sent if they agree.", examples=[False]),
    ] = False
    priority: Annotated[
        Priority,
        Field(description="How urgent it is.", examples=["high"]),
    ] = "medium"
    due_date: Annotated[
        Timestamp | None,
        Field(
            description="When it is due: a date and time with its offset from UTC and at most 9 decimals of a second, "
            "of which 6 are kept, or null. Answers are in UTC. That of a new task must not be in the past, except in a "
            "batch.",
            examples=["2030-12-31T17:00:00Z"],
        ),
    ] = None
    tags: Annotated[
        Tags,
        Field(
            description=f"At most {TAGS_MAX_COUNT}. Each is trimmed and lower-cased, then has 1 to {TAG_MAX_LENGTH} "
            "characters, one that can be seen and no comma; repeated ones are dropped, the order stays. No more than "
            f"{TAGS_SENT_MAX} with those.",
            examples=[["errands"]],
        ),
    ] = []

    def values(self) -> dict[str, Any]:
        """The columns to write, for `persistence.tasks`."""
        return {name: getattr(self, name) for name in VALUES} | self._sent_status()


class NewTask(TaskReplacement):
    """A task to create. Only `title` is required; what is left out gets its default."""

    id: Annotated[
        Id,
        Field(
            default_factory=uuid4,
            description="An id of your own making, so that sending the task again does not create it twice.",
        ),
    ]

    @property
    def chosen_id(self) -> UUID | None:
        return self.id if "id" in self.model_fields_set else None

    @property
    def is_late(self) -> bool:
        """True for a due date in the past, which only a repeat of an earlier request may have (D8)."""
        return self.due_date is not None and self.due_date < datetime.now(UTC)


class _Stored(BaseModel):
    """The fields that the server decides about."""

    id: Annotated[
        UUID,
        Field(
            description="The task's id, unique among the tasks of its owner.",
            examples=["ac3bdb50-75e6-4bc7-9c88-92b4dcf8593a"],
        ),
    ]
    user_id: Annotated[UUID, Field(description="The owner.", examples=["055fcdb6-2179-4226-9200-60ebedb11f2c"])]
    created_at: Annotated[datetime, Field(description="When it was created.", examples=[_TIMESTAMP])]
    updated_at: Annotated[datetime, Field(description="When it was last changed.", examples=[_TIMESTAMP])]
    completed_at: Annotated[datetime | None, Field(description="When it was completed; null while it is pending.")]
    version: Annotated[
        int,
        Field(
            json_schema_extra={"format": "int64", "minimum": 1},
            description="Grows with every change. In double quotes it is the entity tag of the task, for If-Match.",
            examples=[1795320897069274],
        ),
    ]


_DECLARED: dict[str, FieldInfo] = _Stored.model_fields | TaskReplacement.model_fields
_ANSWERED = [str(column.key) for column in COLUMNS]
if missing := set(_ANSWERED) - _DECLARED.keys():
    raise TypeError(f"todos/schemas.py does not declare {', '.join(sorted(missing))}, which persistence/models.py has")
if unknown := _DECLARED.keys() - set(_ANSWERED):
    raise TypeError(f"persistence/models.py has no column for {', '.join(sorted(unknown))} of todos/schemas.py")


def _fields(names: Iterable[str], default: Any) -> dict[str, Any]:
    """The fields of a schema by name, each with this default."""
    fields: dict[str, Any] = {}
    for name in names:
        field = copy(_DECLARED[name])
        field.default = default
        fields[name] = (field.annotation, field)
    return fields


# What is left out stays, so the default is never looked at.
class TaskChanges(create_model("_Changes", __base__=_TaskInput, **_fields(TaskReplacement.model_fields, None))):  # type: ignore[misc] # mypy cannot see that it is a class
    """Changes of a task. What is left out stays; null clears what can be null."""

    def values(self) -> dict[str, Any]:
        """The columns to change, for `persistence.tasks`."""
        changes: dict[str, Any] = self._sent(*VALUES) | self._sent_status()
        return changes


class TaskOut(create_model("_Out", **_fields(_ANSWERED, PydanticUndefined))):  # type: ignore[misc] # as above
    """A task. Times are in UTC."""


class TrashedTask(TaskOut):
    """A task with the moment of its deletion, which is null once it is restored."""

    deleted_at: Annotated[datetime | None, Field(description="When it was put into the trash.", examples=[_TIMESTAMP])]


class ChangedTask(TaskOut):
    """A task as it is since its last change, which may be its deletion."""

    deleted_at: Annotated[
        datetime | None, Field(description="When it was put into the trash; null for a task that is not deleted.")
    ]
    erased: Annotated[
        bool,
        Field(
            description="Whether it is gone for good; then `deleted_at` is set, and its values say nothing of what it "
            "was.",
        ),
    ]


class TaskPage(BaseModel):
    """Tasks in the order asked for; `next_cursor` is the `cursor` of the next page, null on the last one."""

    items: list[TaskOut]
    next_cursor: str | None


class TrashPage(BaseModel):
    """Tasks of the trash; `next_cursor` is the `cursor` of the next page, null on the last one."""

    items: list[TrashedTask]
    next_cursor: str | None


class ChangePage(BaseModel):
    """Tasks that have changed, in the order of their versions."""

    items: list[ChangedTask]
    next_cursor: Annotated[str, Field(description="The `cursor` of the next request, now or at any later time.")]
    more: Annotated[bool, Field(description="Whether there are more already.")]


_Count = Annotated[int, Field(ge=0)]


class StatusCounts(BaseModel):
    """The number of tasks of each status."""

    pending: _Count
    completed: _Count


class PriorityCounts(BaseModel):
    """The number of tasks of each priority."""

    low: _Count
    medium: _Count
    high: _Count


class TaskSummary(BaseModel):
    """The number of tasks of a user, in all and of each kind."""

    total: _Count
    status: StatusCounts
    priority: PriorityCounts
    tags: Annotated[dict[str, _Count], Field(description=f"The {TAGS_COUNTED:,} most frequent tags.")]
    overdue: Annotated[_Count, Field(description="Pending tasks whose due date has passed.")]


class TaskCounts(BaseModel):
    """The number of tasks, in all and of each status."""

    total: _Count
    pending: _Count
    completed: _Count


class Account(BaseModel):
    """The user whom the token names."""

    id: Annotated[UUID, Field(description="The id in the paths of this user, which `me` stands for.")]
    created_at: Annotated[
        datetime | None, Field(description="When the first task was created; null if there was none yet.")
    ]
    tasks: TaskCounts


class NodeCounts(BaseModel):
    """The nodes of a database that has several."""

    known: _Count
    answering: _Count


_Nodes = Annotated[
    NodeCounts,
    Field(
        default_factory=lambda: NodeCounts(known=1, answering=1),
        description="The nodes of the database, if it is asked and has several.",
    ),
]


class HealthData(BaseModel):
    """The state of the parts."""

    status: Literal["healthy", "unhealthy"]
    database: Literal["connected", "degraded", "disconnected", "read-only", "unusable"]
    migration: Literal["up-to-date", "behind", "unknown"]
    nodes: _Nodes


class Health(BaseModel):
    """The answer to the question whether the service can work."""

    status_code: Literal[200, 503]
    message: str
    data: HealthData


class ReadyData(BaseModel):
    """The state of the parts. While the server stops, the database is not asked, and what is known of it `unknown`."""

    status: Literal["ready", "not-ready"]
    database: Literal["connected", "degraded", "disconnected", "read-only", "unusable", "unknown"]
    migration: Literal["up-to-date", "behind", "unknown"]
    nodes: _Nodes
    keys: Annotated[
        Literal["known", "unknown", "not-needed"],
        Field(description="The keys for checking tokens; `not-needed` where no tokens are asked for."),
    ]
    stopping: bool


class Ready(BaseModel):
    """The answer to the question whether to send requests to this process."""

    status_code: Literal[200, 503]
    message: str
    data: ReadyData


class Liveness(BaseModel):
    """A sign of life."""

    status: Literal["alive"]


class FieldErrorOut(BaseModel):
    """The fault of one value."""

    field: Annotated[
        str,
        Field(
            description="The path of the value in the body (`tags.1` is the second tag), the name of a parameter or "
            "header, or `body` for all of it."
        ),
    ]
    detail: Annotated[str, Field(description="What is wrong and how to mend it, for people.")]


class ProblemOut(BaseModel):
    """A problem document (RFC 9457), which says what went wrong."""

    type: Annotated[str, Field(description="Which problem this is, the one member to decide by in code.")]
    title: Annotated[str, Field(description="The same for every problem of this type.")]
    status: Annotated[int, Field(description="The status code again.")]
    detail: Annotated[str, Field(description="What happened this time, for people.")]
    errors: Annotated[list[FieldErrorOut], Field(description="Only for invalid values: what is wrong with each.")] = []
