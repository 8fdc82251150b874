"""All SQL about tasks: one named statement for each operation, and each names the owner (D26).

Every function here is one round trip, except where it says otherwise.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID, uuid4

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlmodel import col

from persistence.database import Database
from persistence.errors import ForeignKeyViolated
from persistence.models import Task
from persistence.statement import Statement


class TaskRow(TypedDict):
    """A task as PostgreSQL returns it and as clients see it, in this order."""

    id: UUID
    user_id: UUID
    title: str
    description: str | None
    status: Literal["pending", "completed"]
    completed: bool
    priority: Literal["low", "medium", "high"]
    due_date: datetime | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class TaskValues(TypedDict):
    """Everything a client may decide about a task; the database knows the rest."""

    title: str
    description: str | None
    status: Literal["pending", "completed"]
    priority: Literal["low", "medium", "high"]
    due_date: datetime | None
    tags: list[str]


class TaskPatch(TypedDict, total=False):
    """What a client wants changed; an absent key leaves that column alone."""

    title: str
    description: str | None
    status: Literal["pending", "completed"]
    priority: Literal["low", "medium", "high"]
    due_date: datetime | None
    tags: list[str]


COMPLETED: ColumnElement[Any] = literal_column("'completed'")

_COLUMNS = (
    col(Task.id),
    col(Task.user_id),
    col(Task.title),
    col(Task.description),
    col(Task.status),
    (col(Task.status) == COMPLETED).label("completed"),
    col(Task.priority),
    col(Task.due_date),
    col(Task.tags),
    col(Task.created_at),
    col(Task.updated_at),
    col(Task.completed_at),
)

_MINE = col(Task.user_id) == bindparam("user_id")
_THIS = and_(_MINE, col(Task.id) == bindparam("task_id"))
_NEWEST_FIRST = (col(Task.created_at).desc(), col(Task.id).desc())
_NULLABLE = ("description", "due_date")


def _value(name: str, prefix: str = "") -> ColumnElement[Any]:
    """The value that a run supplies for a column, cast: PostgreSQL cannot guess the type of one that is used twice."""
    return cast(bindparam(prefix + name), _TABLE.c[name].type)


_TABLE = Task.__table__  # type: ignore[attr-defined] # SQLModel does not declare it
_VALUES = tuple(TaskValues.__annotations__)
# SQLAlchemy keeps the bare column names for itself in SET, hence the prefix.
_NEW = {name: _value(name, "new_") for name in _VALUES}


def _completed_at(status: ColumnElement[Any]) -> ColumnElement[Any]:
    """Set when a task becomes completed, kept while it stays so, cleared when it is reopened (S3-FR-019)."""
    return case((status == COMPLETED, func.coalesce(col(Task.completed_at), func.now())))


def _patched(name: str) -> ColumnElement[Any]:
    """The new value where one was sent, else the old one; null is a value only for a nullable column (D22)."""
    column = _TABLE.c[name]
    if name in _NULLABLE:
        return case((bindparam(f"sends_{name}", type_=Boolean()), _NEW[name]), else_=column)
    return func.coalesce(_NEW[name], column)


CREATE = Statement(
    insert(Task)
    .values(
        id=bindparam("id"),
        user_id=bindparam("user_id"),
        **{name: _value(name) for name in _VALUES},
        completed_at=case((_value("status") == COMPLETED, func.now())),
    )
    .returning(*_COLUMNS),
    TaskRow,
)
GET = Statement(select(*_COLUMNS).where(_THIS), TaskRow)
FIRST_PAGE = Statement(select(*_COLUMNS).where(_MINE).order_by(*_NEWEST_FIRST).limit(bindparam("limit")), TaskRow)
NEXT_PAGE = Statement(
    select(*_COLUMNS)
    .where(
        _MINE,
        tuple_(col(Task.created_at), col(Task.id))
        < tuple_(bindparam("after_created_at", type_=_TABLE.c.created_at.type), bindparam("after_id", type_=Uuid())),
    )
    .order_by(*_NEWEST_FIRST)
    .limit(bindparam("limit")),
    TaskRow,
)
REPLACE = Statement(
    update(Task).where(_THIS).values(**_NEW, completed_at=_completed_at(_NEW["status"])).returning(*_COLUMNS), TaskRow
)
PATCH = Statement(
    update(Task)
    .where(_THIS)
    .values(**{name: _patched(name) for name in _NEW}, completed_at=_completed_at(_patched("status")))
    .returning(*_COLUMNS),
    TaskRow,
)
DELETE = Statement(delete(Task).where(_THIS).returning(*_COLUMNS), TaskRow)


async def create(database: Database, user_id: UUID, values: TaskValues) -> TaskRow | None:
    """The new task, or None when there is no such user."""
    try:
        return await database.row(CREATE, {**values, "id": uuid4(), "user_id": user_id})
    except ForeignKeyViolated:
        return None


async def get(database: Database, user_id: UUID, task_id: UUID) -> TaskRow | None:
    """The task, or None: somebody else's and a missing one look the same."""
    return await database.row(GET, {"user_id": user_id, "task_id": task_id})


async def page(
    database: Database, user_id: UUID, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[TaskRow]:
    """At most `limit` tasks, newest first, from the one `after` this creation time and id."""
    if after is None:
        return await database.rows(FIRST_PAGE, {"user_id": user_id, "limit": limit})
    created_at, task_id = after
    return await database.rows(
        NEXT_PAGE, {"user_id": user_id, "limit": limit, "after_created_at": created_at, "after_id": task_id}
    )


async def replace(database: Database, user_id: UUID, task_id: UUID, values: TaskValues) -> TaskRow | None:
    """The task with all its values replaced, or None."""
    return await database.row(REPLACE, {"user_id": user_id, "task_id": task_id, **_new(values)})


async def patch(database: Database, user_id: UUID, task_id: UUID, changes: TaskPatch) -> TaskRow | None:
    """The task with these changes, or None. No changes read the task and leave `updated_at` as it is."""
    if not changes:
        return await get(database, user_id, task_id)
    sends = {f"sends_{name}": name in changes for name in _NULLABLE}
    return await database.row(PATCH, {"user_id": user_id, "task_id": task_id, **_UNCHANGED, **_new(changes), **sends})


async def remove(database: Database, user_id: UUID, task_id: UUID) -> TaskRow | None:
    """The task as it was, now deleted, or None."""
    return await database.row(DELETE, {"user_id": user_id, "task_id": task_id})


_UNCHANGED: dict[str, None] = dict.fromkeys(f"new_{name}" for name in _NEW)


def _new(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}
