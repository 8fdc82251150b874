"""All SQL about single tasks: one named statement for each operation, and each names the owner (D26).

Every function here is one round trip, except where it says otherwise. `persistence/task_lists.py` has the lists.
"""

from collections.abc import Collection, Iterator, Mapping
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert
from sqlalchemy.sql.dml import ReturningInsert

from persistence.models import Task, TaskValues
from persistence.postgres.database import Database
from persistence.postgres.errors import ForeignKeyViolated, UniqueViolated
from persistence.postgres.statement import Statement

type TaskRow = dict[str, Any]
"""A task as PostgreSQL returns it and as clients see it: the names and the order of `COLUMNS`."""

type Versions = Collection[int] | None
"""The versions of a task that a write may meet; None for any."""


class VersionChanged(Exception):
    """The task exists, but in a version that the write was not meant for."""

    def __init__(self, current: int) -> None:
        super().__init__(current)
        self.current = current


class OwnerErased(Exception):
    """The account has been erased, and can have no tasks (D36)."""


class TooMany(Exception):
    """The owner has as many tasks as it may have."""


PENDING: sa.ColumnElement[Any] = sa.literal_column("'pending'")
COMPLETED: sa.ColumnElement[Any] = sa.literal_column("'completed'")


TABLE = Task.__table__  # type: ignore[attr-defined] # SQLModel does not declare it
# Without the defaults of the model, which would stand in each INSERT.
OWNERS = sa.table("users", sa.column("id", sa.Uuid()), sa.column("is_active"), sa.column("is_erased"))
VALUES = tuple(TaskValues.model_fields)
"""The columns that a client decides about."""
NULLABLE = tuple(name for name in VALUES if TABLE.c[name].nullable)
"""The columns that a patch may clear (D22)."""


def _columns() -> Iterator[sa.ColumnElement[Any]]:
    """The owner and the id, what the client decides, and what the database knows besides and a client may see."""
    keys = ("id", "user_id")
    others = (name for name in Task.model_fields if name not in (*keys, *VALUES, "owner_is_erased"))
    for name in (*keys, *VALUES, *others):
        yield TABLE.c[name]
        if name == "status":
            yield (TABLE.c[name] == COMPLETED).label("completed")


COLUMNS = tuple(_columns())
MINE = TABLE.c.user_id == sa.bindparam("user_id")

_VERSIONS = sa.cast(sa.bindparam("versions"), ARRAY(sa.BigInteger()))
_THIS = sa.and_(MINE, TABLE.c.id == sa.bindparam("task_id"))
_EXPECTED = sa.and_(_THIS, _VERSIONS.is_(None) | (TABLE.c.version == sa.any_(_VERSIONS)))


def _value(name: str, prefix: str = "") -> sa.ColumnElement[Any]:
    """The value that a run supplies for a column, cast: PostgreSQL cannot guess the type of one that is used twice."""
    return sa.cast(sa.bindparam(prefix + name), TABLE.c[name].type)


# SQLAlchemy keeps the bare column names for itself in SET, hence the prefix.
_NEW = {name: _value(name, "new_") for name in VALUES}
_UNCHANGED: dict[str, Any] = dict.fromkeys(f"new_{name}" for name in _NEW)


def _completed_at(status: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Set when a task becomes completed, kept while it stays so, cleared when it is reopened (S3-FR-019)."""
    return sa.case((status == COMPLETED, sa.func.coalesce(TABLE.c.completed_at, sa.func.now())))


def _patched(name: str) -> sa.ColumnElement[Any]:
    """The new value where one was sent, else the old one; null is a value only for a nullable column (D22)."""
    column = TABLE.c[name]
    if name in NULLABLE:
        return sa.case((sa.bindparam(f"sends_{name}", type_=sa.Boolean()), _NEW[name]), else_=column)
    return sa.func.coalesce(_NEW[name], column)


_ROW: dict[str, sa.ColumnElement[Any]] = {
    "id": sa.bindparam("id", type_=sa.Uuid()),
    "user_id": sa.bindparam("user_id", type_=sa.Uuid()),
    **{name: _value(name) for name in VALUES},
    "completed_at": sa.case((_value("status") == COMPLETED, sa.func.now())),
}


def _creating(rows: Insert) -> ReturningInsert[Any]:
    # For an id that exists already, the update changes nothing: it waits for a concurrent insert of the same id and
    # makes its row appear in RETURNING, as DO NOTHING would not. A row that was just inserted has never been locked,
    # which is what its xmax tells.
    return rows.on_conflict_do_update(index_elements=["user_id", "id"], set_={"id": rows.excluded.id}).returning(
        *COLUMNS, sa.literal_column("tasks.xmax <> 0").label("replayed")
    )


_CREATE = _creating(insert(Task).values(**_ROW))
CREATE = Statement("create", _CREATE)
# The last task that there may be is looked for, so no more entries of an index are read than there may be tasks. The
# subquery hides their number from the planner, which would read and sort all tasks of a user that it thinks has fewer.
_LAST_ALLOWED = sa.exists(
    sa.select(sa.literal_column("1")).select_from(TABLE).where(MINE)
    .order_by(TABLE.c.created_at.desc(), TABLE.c.id.desc())
    .offset(sa.select(sa.bindparam("others_max", type_=sa.Integer())).scalar_subquery()).limit(sa.literal_column("1"))
)  # fmt: skip
_IS_REPEAT = sa.exists().where(MINE, TABLE.c.id == sa.bindparam("id"))
CREATE_WITHIN = Statement(
    "create",
    _creating(insert(Task).from_select(list(_ROW), sa.select(*_ROW.values()).where(~_LAST_ALLOWED | _IS_REPEAT))),
)
# The foreign key is checked when all of the statement is done. No key is named, as the id is in two unique indexes, and
# first writes at once can meet either of them.
CREATE_WITH_OWNER = Statement(
    "create_with_owner",
    _CREATE.add_cte(insert(OWNERS).values(id=sa.bindparam("user_id")).on_conflict_do_nothing().cte("owner")),
)
GET = Statement("get", sa.select(*COLUMNS).where(_THIS))
REPLACE = Statement(
    "replace",
    sa.update(Task).where(_EXPECTED).values(**_NEW, completed_at=_completed_at(_NEW["status"])).returning(*COLUMNS),
)
PATCH = Statement(
    "patch",
    sa.update(Task)
    .where(_EXPECTED)
    .values(**{name: _patched(name) for name in _NEW}, completed_at=_completed_at(_patched("status")))
    .returning(*COLUMNS),
)
DELETE = Statement("delete", sa.delete(Task).where(_EXPECTED).returning(*COLUMNS))


async def create(
    database: Database,
    user_id: UUID,
    values: Mapping[str, Any],
    task_id: UUID | None = None,
    *,
    makes_owner: bool = False,
    tasks_max: int = 0,
) -> TaskRow | None:
    """The new task, or the one that the user had with this `task_id` already; None when there is no such user.

    With `makes_owner` the user is made too, in a second round trip; raises `OwnerErased` if its account was erased.
    With `tasks_max` raises `TooMany` when the user has so many tasks; creates that run at once do not see each other.
    The row has one column more, `replayed`, which tells a new task from an old one. Any number of repeats at once make
    one task, and any number of first writes at once make one user.
    """
    started, new = monotonic(), {**values, "id": task_id or uuid4(), "user_id": user_id}
    statement = CREATE
    if tasks_max:
        statement, new["others_max"] = CREATE_WITHIN, tasks_max - 1
    try:
        try:
            row = await database.row(statement, new)
        except UniqueViolated:
            # Before revision 0006 the id alone is unique as well, and repeats at once can meet that index first.
            row = await database.row(statement, new, database.time_left(started))
    except ForeignKeyViolated:
        if not makes_owner:
            return None
    else:
        if row is None:
            raise TooMany
        return row
    try:
        return await database.row(CREATE_WITH_OWNER, new, database.time_left(started))
    except ForeignKeyViolated as error:
        raise OwnerErased from error


async def get(database: Database, user_id: UUID, task_id: UUID, timeout: float | None = None) -> TaskRow | None:
    """The task, or None if the user has none with this id."""
    return await database.row(GET, {"user_id": user_id, "task_id": task_id}, timeout)


async def replace(
    database: Database, user_id: UUID, task_id: UUID, values: Mapping[str, Any], versions: Versions = None
) -> TaskRow | None:
    """The task with all its values replaced, or None. Raises `VersionChanged` in a second round trip."""
    return await _write(database, REPLACE, _bind_this(user_id, task_id, versions) | _bind_new(values))


async def patch(
    database: Database, user_id: UUID, task_id: UUID, changes: Mapping[str, Any], versions: Versions = None
) -> TaskRow | None:
    """The task with these changes, or None. No changes read the task and leave it as it is.

    Raises `VersionChanged` in a second round trip.
    """
    if changes:
        sends = {f"sends_{name}": name in changes for name in NULLABLE}
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


async def _write(database: Database, statement: Statement, values: dict[str, Any]) -> TaskRow | None:
    started = monotonic()
    row = await database.row(statement, values)
    if row is None and values["versions"] is not None:
        # Only to explain the failure: either there is no such task, or it has changed.
        current = await get(database, values["user_id"], values["task_id"], database.time_left(started))
        if current:
            raise VersionChanged(current["version"])
    return row


def _bind_this(user_id: UUID, task_id: UUID, versions: Versions) -> dict[str, Any]:
    return {"user_id": user_id, "task_id": task_id, "versions": None if versions is None else list(versions)}


def _bind_new(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}
