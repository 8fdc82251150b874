"""Many changes in one request: its items, each checked by itself, and their results (docs/adr/0034-batches.md).

The docstrings of the schemas are the descriptions of the contract.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from persistence.batches import Outcome, Write
from persistence.tasks import RacedPast, VersionChanged
from todos.errors import (
    Conflict,
    FieldError,
    InvalidInput,
    NotInTrash,
    PreconditionFailed,
    Problem,
    TaskNotFound,
    UserNotFound,
)
from todos.faults import field_error
from todos.refusals import problem_of
from todos.schemas import ProblemOut, TaskChanges, TaskReplacement, TrashedTask
from todos.types import Id, IdempotencyKey, is_id

ITEMS_MAX = 100

_OP = Field(description="Which change it is.")


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Annotated[Id, Field(description="The task. Each may be in a batch once.")]
    key: Annotated[
        IdempotencyKey,
        Field(
            default=None,
            description="Makes the item safe to send again, as `Idempotency-Key` does for a request of its own, and as "
            "the same key. A create needs none, as its `id` is one.",
        ),
    ]

    def write(self) -> Write:
        """The write that it asks for, for `persistence.batches`."""
        op: Any = self.op  # type: ignore[attr-defined] # each kind of item has its own
        version = getattr(self, "if_version", None)
        versions = None if version is None else (version,)
        values = self.values() if isinstance(self, TaskReplacement | TaskChanges) else {}
        return Write(op, self.id, values, versions, self.key)


class _Conditional(_Item):
    if_version: Annotated[
        int,
        Field(
            default=None,
            strict=True,
            ge=1,
            le=2**63 - 1,
            json_schema_extra={"format": "int64"},
            description="The `version` of the task as you know it. If the task has another one now, nothing is done, "
            "and the result is 412.",
        ),
    ]


class BatchCreate(TaskReplacement, _Item):
    """Creates a task. Its due date may be in the past, as it may have been decided about long before it is sent."""

    op: Annotated[Literal["create"], _OP]


class BatchReplace(TaskReplacement, _Conditional):
    """Replaces all values of a task; what is left out goes to its default."""

    op: Annotated[Literal["replace"], _OP]


class BatchPatch(TaskChanges, _Conditional):
    """Changes what is sent of a task and leaves the rest. null clears what can be null."""

    op: Annotated[Literal["patch"], _OP]


class BatchDelete(_Conditional):
    """Puts a task into the trash."""

    op: Annotated[Literal["delete"], _OP]


class BatchRestore(_Conditional):
    """Takes a task out of the trash."""

    op: Annotated[Literal["restore"], _OP]


@dataclass(frozen=True, slots=True)
class Faulty:
    """An item that cannot be used, with its id if that much can be read."""

    id: UUID | None
    problem: InvalidInput

    @property
    def result(self) -> dict[str, Any]:
        return _failed(self.id, self.problem)


def _by_itself(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Makes the faults of an item its own, so that they do not become those of the batch."""
    try:
        return check(value)
    except ValidationError as error:
        sent = value.get("id") if isinstance(value, dict) else None
        return Faulty(UUID(sent) if isinstance(sent, str) and is_id(sent) else None, InvalidInput.of(*_faults(error)))


def _faults(error: ValidationError) -> Iterator[FieldError]:
    """The place of a fault begins with the kind of the item, or is empty if there is no such kind."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        is_kind = fault["type"].startswith("union_tag")
        yield field_error(("op",) if is_kind else fault["loc"][1:], fault)


BatchItem = Annotated[
    Annotated[BatchCreate | BatchReplace | BatchPatch | BatchDelete | BatchRestore, Field(discriminator="op")],
    WrapValidator(_by_itself),
]


class Batch(BaseModel):
    """Changes that are committed together, and in this order. None sees what another one does."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[
        list[BatchItem],
        Field(min_length=1, max_length=ITEMS_MAX, description=f"1 to {ITEMS_MAX} changes, each of another task."),
    ]

    def checked(self) -> Sequence[_Item | Faulty]:
        """The items, valid or not. Raises `InvalidInput` if a task is in two of them."""
        items: Sequence[_Item | Faulty] = self.items
        first, twice = dict[UUID, int](), list[FieldError]()
        for number, item in enumerate(items):
            if item.id is not None and first.setdefault(item.id, number) != number:
                detail = f"Each task may be in a batch once, and items.{first[item.id]} has this one"
                twice.append({"field": f"items.{number}.id", "detail": detail})
        if twice:
            raise InvalidInput.of(*twice)
        return items


class BatchResult(BaseModel):
    """The result of an item: `task`, `problem`, or for a conflict both."""

    id: Annotated[
        UUID | None, Field(description="The `id` of the item; null if the item has none that can be read as one.")
    ]
    status: Annotated[
        int,
        Field(
            description="The status that a request of its own would get: 201 for a new task, 200 for another change, "
            "or that of the problem."
        ),
    ]
    task: Annotated[
        TrashedTask,
        Field(
            default=None,
            description="The task as it is now. It is also there with status 412, and with 409 while the task is in "
            "the trash, so that a client can merge without asking again.",
        ),
    ]
    problem: Annotated[ProblemOut, Field(default=None, description="Why the item has changed nothing.")]
    replayed: Annotated[
        bool,
        Field(
            default=None,
            description="True if the item was applied before, by the same key or id, so that nothing was changed now; "
            "absent otherwise.",
        ),
    ]


class BatchResults(BaseModel):
    """The results of a batch."""

    results: Annotated[list[BatchResult], Field(description="One for each item, in the order of the items.")]


def result(write: Write, outcome: Outcome) -> dict[str, Any]:
    """The result of an item that was carried out, or could not be."""
    problem = _problem(write, outcome)
    if problem:
        task = {"task": outcome.task} if outcome.task else {}
        return _failed(write.task_id, problem) | task
    status = 201 if write.op == "create" and not outcome.is_repeat else 200
    repeat = {"replayed": True} if outcome.is_repeat else {}
    return {"id": write.task_id, "status": status, "task": outcome.task, **repeat}


def _failed(task_id: UUID | None, problem: Problem) -> dict[str, Any]:
    return {"id": task_id, "status": problem.status, "problem": problem.document}


def _problem(write: Write, outcome: Outcome) -> Problem | None:
    match outcome.refusal:
        case VersionChanged() as changed:
            return PreconditionFailed.of_item(changed.current["version"])
        case RacedPast():
            return Conflict("Another write of the task came in between, so nothing was done. Send the item again.")
        case Exception() as refusal:
            return problem_of(refusal)
    if outcome.task:
        return None
    if write.op == "create":
        return UserNotFound()
    return NotInTrash() if write.op == "restore" else TaskNotFound()
