"""All SQL about single tasks: one named statement for each operation, and each names the owner (D26).

Every function here is one round trip, except where it says otherwise. `persistence/task_lists.py` has the lists.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from time import monotonic
from typing import Any, Literal, TypedDict
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    and_,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import aliased
from sqlmodel import col

from persistence import users
from persistence.database import Database
from persistence.errors import ForeignKeyViolated, UniqueViolated
from persistence.models import Task
from persistence.statement import Statement

type StatusName = Literal["pending", "completed"]
type PriorityName = Literal["low", "medium", "high"]


class TaskRow(TypedDict):
    """A task as PostgreSQL returns it and as clients see it, in this order."""

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
    version: int


class CreatedRow(TaskRow):
    """`replayed` says that the task was there already."""

    replayed: bool


class TaskValues(TypedDict):
    """Everything a client may decide about a task; the database knows the rest."""

    title: str
    description: str | None
    status: StatusName
    priority: PriorityName
    due_date: datetime | None
    tags: list[str]


class TaskPatch(TypedDict, total=False):
    """What a client wants changed; an absent key leaves that column alone."""

    title: str
    description: str | None
    status: StatusName
    priority: PriorityName
    due_date: datetime | None
    tags: list[str]


type Versions = Collection[int] | None
"""The versions of a task that a write may meet; None for any."""


class VersionChanged(Exception):
    """The task is there, but in a version that the write was not meant for."""

    def __init__(self, current: int) -> None:
        super().__init__(current)
        self.current = current


PENDING: ColumnElement[Any] = literal_column("'pending'")
COMPLETED: ColumnElement[Any] = literal_column("'completed'")


def _columns(task: type[Task]) -> tuple[Any, ...]:
    """What is returned of a task, in the order of `TaskRow`."""
    return (
        col(task.id),
        col(task.user_id),
        col(task.title),
        col(task.description),
        col(task.status),
        (col(task.status) == COMPLETED).label("completed"),
        col(task.priority),
        col(task.due_date),
        col(task.tags),
        col(task.created_at),
        col(task.updated_at),
        col(task.completed_at),
        col(task.version),
    )


COLUMNS = _columns(Task)
MINE = col(Task.user_id) == bindparam("user_id")
TABLE = Task.__table__  # type: ignore[attr-defined] # SQLModel does not declare it

_VERSIONS = cast(bindparam("versions"), ARRAY(BigInteger()))
# The task with this id, or the one with the next. By its id alone, somebody else's task would be found and read to see
# whose it is, and a missing one would not, which a clock can tell (docs/decisions/0020-nearest-task.md).
_NEAREST = aliased(
    Task,
    select(Task)
    .where(col(Task.id) >= bindparam("task_id"))
    .order_by(col(Task.id))
    .limit(literal_column("1"))
    .subquery("nearest"),
)
_THIS = and_(col(_NEAREST.id) == bindparam("task_id"), col(_NEAREST.user_id) == bindparam("user_id"))
_EXPECTED = and_(
    # What was found is; but each statement names the owner where it reads or writes (D26).
    MINE,
    col(Task.id) == select(col(_NEAREST.id)).where(_THIS).scalar_subquery(),
    _VERSIONS.is_(None) | (col(Task.version) == any_(_VERSIONS)),
)
_NULLABLE = ("description", "due_date")
_VALUES = tuple(TaskValues.__annotations__)


def _value(name: str, prefix: str = "") -> ColumnElement[Any]:
    """The value that a run supplies for a column, cast: PostgreSQL cannot guess the type of one that is used twice."""
    return cast(bindparam(prefix + name), TABLE.c[name].type)


# SQLAlchemy keeps the bare column names for itself in SET, hence the prefix.
_NEW = {name: _value(name, "new_") for name in _VALUES}
_UNCHANGED: dict[str, Any] = dict.fromkeys(f"new_{name}" for name in _NEW)


def _completed_at(status: ColumnElement[Any]) -> ColumnElement[Any]:
    """Set when a task becomes completed, kept while it stays so, cleared when it is reopened (S3-FR-019)."""
    return case((status == COMPLETED, func.coalesce(col(Task.completed_at), func.now())))


def _patched(name: str) -> ColumnElement[Any]:
    """The new value where one was sent, else the old one; null is a value only for a nullable column (D22)."""
    column = TABLE.c[name]
    if name in _NULLABLE:
        return case((bindparam(f"sends_{name}", type_=Boolean()), _NEW[name]), else_=column)
    return func.coalesce(_NEW[name], column)


_INSERT = insert(Task).values(
    id=bindparam("id"),
    user_id=bindparam("user_id"),
    **{name: _value(name) for name in _VALUES},
    completed_at=case((_value("status") == COMPLETED, func.now())),
)
# Where the id is there already, the update changes nothing: it only waits for a concurrent insert of the same id and
# makes its row appear in RETURNING, as DO NOTHING would not. It leaves the row of somebody else alone and returns none.
# A row that was just inserted has never been locked, which is what its xmax tells.
CREATE = Statement(
    _INSERT.on_conflict_do_update(index_elements=["id"], set_={"id": _INSERT.excluded.id}, where=MINE).returning(
        *COLUMNS, literal_column("tasks.xmax <> 0").label("replayed")
    ),
    CreatedRow,
)
GET = Statement(select(*_columns(_NEAREST)).where(_THIS), TaskRow)
REPLACE = Statement(
    update(Task).where(_EXPECTED).values(**_NEW, completed_at=_completed_at(_NEW["status"])).returning(*COLUMNS),
    TaskRow,
)
PATCH = Statement(
    update(Task)
    .where(_EXPECTED)
    .values(**{name: _patched(name) for name in _NEW}, completed_at=_completed_at(_patched("status")))
    .returning(*COLUMNS),
    TaskRow,
)
DELETE = Statement(delete(Task).where(_EXPECTED).returning(*COLUMNS), TaskRow)


async def create(
    database: Database, user_id: UUID, values: TaskValues, task_id: UUID | None = None
) -> CreatedRow | None:
    """The new task, or the user's own that has this `task_id` already, untouched; None when there is no such user.

    Any number of repeats at once make one task. Raises `UniqueViolated` in a second round trip when the id is somebody
    else's.
    """
    started = monotonic()
    try:
        row = await database.row(CREATE, {**values, "id": task_id or uuid4(), "user_id": user_id})
    except ForeignKeyViolated:
        return None
    if row is None and await users.exists(database, user_id, database.time_left(started)):
        raise UniqueViolated("pk_tasks")
    return row


async def get(database: Database, user_id: UUID, task_id: UUID, timeout: float | None = None) -> TaskRow | None:
    """The task, or None: somebody else's and a missing one look the same."""
    return await database.row(GET, {"user_id": user_id, "task_id": task_id}, timeout)


async def replace(
    database: Database, user_id: UUID, task_id: UUID, values: TaskValues, versions: Versions = None
) -> TaskRow | None:
    """The task with all its values replaced, or None. Raises `VersionChanged` in a second round trip."""
    return await _write(database, REPLACE, _bind_this(user_id, task_id, versions) | _bind_new(values))


async def patch(
    database: Database, user_id: UUID, task_id: UUID, changes: TaskPatch, versions: Versions = None
) -> TaskRow | None:
    """The task with these changes, or None. No changes read the task and leave it as it is.

    Raises `VersionChanged` in a second round trip.
    """
    if changes:
        sends = {f"sends_{name}": name in changes for name in _NULLABLE}
        return await _write(
            database, PATCH, _bind_this(user_id, task_id, versions) | _UNCHANGED | _bind_new(changes) | sends
        )
    row = await get(database, user_id, task_id)
    if row and versions is not None and row["version"] not in versions:
        raise VersionChanged(row["version"])
    return row


async def remove(database: Database, user_id: UUID, task_id: UUID, versions: Versions = None) -> TaskRow | None:
    """The task as it was, now deleted, or None. Raises `VersionChanged` in a second round trip."""
    return await _write(database, DELETE, _bind_this(user_id, task_id, versions))


async def _write(database: Database, statement: Statement[TaskRow], values: dict[str, Any]) -> TaskRow | None:
    started = monotonic()
    row = await database.row(statement, values)
    if row is None and values["versions"] is not None:
        # Only to explain a failure: either the task is not there, or it has changed.
        current = await get(database, values["user_id"], values["task_id"], database.time_left(started))
        if current:
            raise VersionChanged(current["version"])
    return row


def _bind_this(user_id: UUID, task_id: UUID, versions: Versions) -> dict[str, Any]:
    return {"user_id": user_id, "task_id": task_id, "versions": None if versions is None else list(versions)}


def _bind_new(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}
