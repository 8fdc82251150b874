"""All SQL about single tasks: one named statement for each operation, and each names the owner (D26).

Every write raises the revision of the owner, which becomes the version of the task, in the same statement (D39). It
locks the row of the owner before the task, so that the writes of an owner commit in the order of their revisions, and
none of them can deadlock (docs/adr/0032-revisions-and-the-feed.md).

Every function here is one round trip, except where it says otherwise. `persistence/task_lists.py` has the lists.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from persistence.models import Task, TaskValues
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement

type TaskRow = dict[str, Any]
"""A task as PostgreSQL returns it and as clients see it: the names and the order of `COLUMNS`."""

type Versions = Collection[int] | None
"""The versions of a task that a write may meet; None for any."""

type Change = Literal["replace", "patch", "delete", "restore"]


class VersionChanged(Exception):
    """The task exists, but in a version that the write was not meant for."""

    def __init__(self, current: TaskRow) -> None:
        super().__init__(current["version"])
        self.current = current


class OwnerErased(Exception):
    """The account has been erased, and can have no tasks (D36)."""


class AlreadyDeleted(Exception):
    """A task with this id is in the trash, or erased, and a create does not bring it back (D41)."""


class RacedPast(Exception):
    """The task is now as the change expected it, which it was not a moment ago."""


class TooMany(Exception):
    """The owner has as many tasks as it may have."""


PENDING: sa.ColumnElement[Any] = sa.literal_column("'pending'")
COMPLETED: sa.ColumnElement[Any] = sa.literal_column("'completed'")
KEYS_KEPT = 8
"""Keys of the last changes that a task remembers."""


TABLE = Task.__table__  # type: ignore[attr-defined] # SQLModel does not declare it
# Without the defaults of the model, which would stand in each INSERT and UPDATE.
OWNERS = sa.table(
    "users",
    sa.column("id", sa.Uuid()),
    sa.column("is_active"),
    sa.column("is_erased", sa.Boolean()),
    sa.column("revision", sa.BigInteger()),
    sa.column("horizon", sa.BigInteger()),
)
VALUES = tuple(TaskValues.model_fields)
"""The columns that a client decides about."""
NULLABLE = tuple(name for name in VALUES if TABLE.c[name].nullable)
"""The columns that a patch may clear (D22)."""
_UNSEEN = ("owner_is_erased", "deleted_at", "is_erased", "applied_keys")


def _columns() -> Iterator[sa.ColumnElement[Any]]:
    """The owner and the id, what the client decides, and what the database knows besides and a client may see."""
    keys = ("id", "user_id")
    others = (name for name in Task.model_fields if name not in (*keys, *VALUES, *_UNSEEN))
    for name in (*keys, *VALUES, *others):
        yield TABLE.c[name]
        if name == "status":
            yield (TABLE.c[name] == COMPLETED).label("completed")


COLUMNS = tuple(_columns())
USER_ID: sa.ColumnElement[Any] = sa.bindparam("user_id", type_=sa.Uuid())
MINE = TABLE.c.user_id == USER_ID
LIVE = TABLE.c.deleted_at.is_(None)
TRASHED = sa.and_(TABLE.c.deleted_at.is_not(None), ~TABLE.c.is_erased)
THIS = sa.and_(MINE, TABLE.c.id == sa.bindparam("task_id", type_=sa.Uuid()))

_VERSIONS = sa.cast(sa.bindparam("versions"), ARRAY(sa.BigInteger()))
_EXPECTED = _VERSIONS.is_(None) | (TABLE.c.version == sa.any_(_VERSIONS))
# A clock that goes back changes nothing in the order. A subquery, as some engines take no `now()` beside a column.
# `extract` would reckon in numeric, which takes a hundredth of a create.
_MICROSECONDS = sa.select(
    sa.literal_column("(date_part('epoch', now()) * 1000000)::bigint", sa.BigInteger())
).scalar_subquery()
ONE: sa.ColumnElement[Any] = sa.literal_column("1")


def raised(*conditions: sa.ColumnElement[bool]) -> sa.CTE:
    """Raises the revision of the owner if all conditions hold, and has its `id` and its new `revision`."""
    return (
        sa.update(OWNERS)
        .where(OWNERS.c.id == USER_ID, *conditions)
        .values(revision=sa.func.greatest(OWNERS.c.revision + ONE, _MICROSECONDS, type_=sa.BigInteger()))
        .returning(OWNERS.c.id, OWNERS.c.revision)
        .cte("owner")
    )


def time_of(revision: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The moment of a revision, which never goes back and is a pure function, as some engines ask for."""
    seconds = sa.cast(revision, sa.Double()) / sa.literal_column("1000000", sa.Double())
    return sa.func.to_timestamp(seconds, type_=sa.DateTime(timezone=True))


def _value(name: str, prefix: str = "") -> sa.ColumnElement[Any]:
    """The value that a run supplies for a column, cast: PostgreSQL cannot guess the type of one that is used twice."""
    return sa.cast(sa.bindparam(prefix + name), TABLE.c[name].type)


# SQLAlchemy keeps the bare column names for itself in SET, hence the prefix.
_NEW = {name: _value(name, "new_") for name in VALUES}
_UNCHANGED: dict[str, Any] = dict.fromkeys(f"new_{name}" for name in _NEW)


def _patched(name: str) -> sa.ColumnElement[Any]:
    """The new value where one was sent, else the old one; null is a value only for a nullable column (D22)."""
    column = TABLE.c[name]
    if name in NULLABLE:
        return sa.case((sa.bindparam(f"sends_{name}", type_=sa.Boolean()), _NEW[name]), else_=column)
    return sa.func.coalesce(_NEW[name], column)


_ID_OF_NEW: sa.ColumnElement[Any] = sa.bindparam("id", type_=sa.Uuid())
_OTHERS_MAX = sa.bindparam("others_max", type_=sa.BigInteger())
# The last task that there may be is looked for, so no more entries of an index are read than there may be tasks. The
# subquery hides their number from the planner, which would read and sort all tasks of a user that it thinks has fewer.
_LAST_ALLOWED = sa.exists(
    sa.select(ONE).select_from(TABLE).where(MINE, LIVE)
    .order_by(TABLE.c.created_at.desc(), TABLE.c.id.desc())
    .offset(sa.select(_OTHERS_MAX).scalar_subquery()).limit(ONE)
)  # fmt: skip


def _create(*conditions: sa.ColumnElement[bool]) -> Statement:
    owner = raised(~OWNERS.c.is_erased, *conditions)
    row: dict[str, sa.ColumnElement[Any]] = {
        "id": _ID_OF_NEW,
        "user_id": owner.c.id,
        **{name: _value(name) for name in VALUES},
        "completed_at": sa.case((_value("status") == COMPLETED, sa.func.now())),
        "version": owner.c.revision,
    }
    rows = insert(Task).from_select(list(row), sa.select(*row.values()))
    # For an id that exists already, the update changes nothing: it waits for a concurrent insert of the same id and
    # makes its row appear in RETURNING, as DO NOTHING would not. A row that was just inserted has never been locked,
    # which is what its xmax tells.
    clause = rows.on_conflict_do_update(index_elements=["user_id", "id"], set_={"id": rows.excluded.id}).returning(
        *COLUMNS, TABLE.c.deleted_at, TABLE.c.is_erased, sa.literal_column("tasks.xmax <> 0").label("replayed")
    )
    return Statement("create", clause)


CREATE = _create()
CREATE_WITHIN = _create(~_LAST_ALLOWED | sa.exists(ONE).where(MINE, TABLE.c.id == _ID_OF_NEW))
# An id is in two unique indexes, and first writes at once can meet either of them, so no key is named.
MAKE_OWNER = Statement("make_owner", insert(OWNERS).values(id=USER_ID).on_conflict_do_nothing())
OWNER = Statement("owner", sa.select(OWNERS.c.is_erased).where(OWNERS.c.id == USER_ID))
GET = Statement("get", sa.select(*COLUMNS).where(THIS, LIVE))


def _hash(key: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.hashtextextended(key, sa.literal_column("0"), type_=sa.BigInteger())


_KEY = _hash(sa.bindparam("key", type_=sa.Text()))
_IS_NEW = (sa.any_(TABLE.c.applied_keys) == _KEY).is_not(sa.true())
_KEYS = sa.func.trim_array(
    sa.func.array_prepend(_KEY, TABLE.c.applied_keys),
    sa.func.greatest(
        sa.func.cardinality(TABLE.c.applied_keys) - sa.literal_column(str(KEYS_KEPT - 1)), sa.literal_column("0")
    ),
    type_=ARRAY(sa.BigInteger()),
)


def _completed_at(status: sa.ColumnElement[Any], moment: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Set when a task becomes completed, kept while it stays so, cleared when it is reopened (S3-FR-019)."""
    return sa.case((status == COMPLETED, sa.func.coalesce(TABLE.c.completed_at, moment)))


def _sets(change: Change, new: Mapping[str, Any], moment: sa.ColumnElement[Any]) -> Mapping[str, Any]:
    match change:
        case "replace" | "patch":
            return {**new, "completed_at": _completed_at(new["status"], moment)}
        case "delete":
            return {"deleted_at": moment}
        case "restore":
            return {"deleted_at": sa.null()}


def _change(change: Change, new: Mapping[str, Any] = {}, *, keyed: bool = False) -> Statement:
    """Sets new values, or those that the change is about.

    The owner is raised only if the task is as the write expects it, so that one that fails writes nothing.
    """
    conditions = [THIS, TRASHED if change == "restore" else LIVE, _EXPECTED]
    if keyed:
        conditions.append(_IS_NEW)
    limits = [_OTHERS_MAX.is_(None) | ~_LAST_ALLOWED] if change == "restore" else []
    owner = raised(sa.exists(ONE).where(*conditions), *limits)
    moment = time_of(owner.c.revision)
    sets = {**_sets(change, new, moment), "updated_at": moment, "version": owner.c.revision}
    if keyed:
        sets["applied_keys"] = _KEYS
    returned = (*COLUMNS, TABLE.c.deleted_at) if change == "delete" else COLUMNS
    return Statement(change, sa.update(Task).where(*conditions).values(sets).returning(*returned))


_PATCHED = {name: _patched(name) for name in VALUES}
REPLACE, REPLACE_ONCE = _change("replace", _NEW), _change("replace", _NEW, keyed=True)
PATCH, PATCH_ONCE = _change("patch", _PATCHED), _change("patch", _PATCHED, keyed=True)
# For the change that is made most, as it takes PostgreSQL and us a little less.
PATCH_STATUS = _change("patch", {"status": _NEW["status"]})
DELETE, DELETE_ONCE = _change("delete"), _change("delete", keyed=True)
RESTORE, RESTORE_ONCE = _change("restore"), _change("restore", keyed=True)
_CHANGES: Mapping[Change, tuple[Statement, Statement]] = {
    "replace": (REPLACE, REPLACE_ONCE),
    "patch": (PATCH, PATCH_ONCE),
    "delete": (DELETE, DELETE_ONCE),
    "restore": (RESTORE, RESTORE_ONCE),
}

_ASKED = (
    sa.func.unnest(sa.cast(sa.bindparam("ids"), ARRAY(sa.Uuid())), sa.cast(sa.bindparam("keys"), ARRAY(sa.Text())))
    .table_valued(sa.column("id", sa.Uuid()), sa.column("key", sa.Text()), name="asked")
    .render_derived()
)
_FACTS = ("deleted_at", "is_erased", "was_applied")
STATES = Statement(
    "states",
    sa.select(
        *COLUMNS,
        TABLE.c.deleted_at,
        TABLE.c.is_erased,
        sa.func.coalesce(sa.any_(TABLE.c.applied_keys) == _hash(_ASKED.c.key), sa.false()).label("was_applied"),
    ).where(
        MINE,
        TABLE.c.id == _ASKED.c.id,
        sa.literal_column("tasks.xmin IS DISTINCT FROM pg_current_xact_id_if_assigned()::xid", sa.Boolean()),
    ),
)
"""Why changes may have written nothing: the tasks with these ids, in any state, and if they know the keys.

Not those that the same transaction has written.
"""


class TaskStep(NamedTuple):
    """One write of a task, as a step of `Database.together`."""

    statement: Statement
    values: Mapping[str, Any]

    @property
    def may_be_explained(self) -> bool:
        """False for a change that writes nothing for one reason only: there is no such task."""
        return any(self.values.get(name) is not None for name in ("versions", "key", "others_max"))

    def explain(self, found: TaskRow | None) -> TaskRow | None:
        """Tells from a row of `STATES` why a change wrote nothing.

        Returns the task of an earlier request with the same key, marked as `replayed`, or None: there is no such task
        for this change. Raises `VersionChanged`, `TooMany`, or `RacedPast` for one that may run again.
        """
        if found is None or found["is_erased"]:
            return None
        change, versions = self.statement.name, self.values["versions"]
        is_live = found["deleted_at"] is None
        task = _task(found)
        if found["was_applied"]:
            if not is_live and change != "delete":
                # It was deleted after this change.
                return None
            facts = {"deleted_at": found["deleted_at"]} if change == "delete" else {}
            return task | facts | {"replayed": True}
        if is_live == (change == "restore"):
            return None
        if versions is not None and task["version"] not in versions:
            raise VersionChanged(task)
        if self.values.get("others_max") is not None:
            raise TooMany
        raise RacedPast


def creating(user_id: UUID, values: Mapping[str, Any], task_id: UUID, tasks_max: int = 0) -> TaskStep:
    """The statement that creates a task, with at most `tasks_max` live ones; it returns no row if there is no owner.

    The row says besides if it was there already (`replayed`), and if so, whether it is in the trash (`deleted_at`),
    or erased (`is_erased`).
    """
    new = {**values, "id": task_id, "user_id": user_id}
    if tasks_max:
        return TaskStep(CREATE_WITHIN, {**new, "others_max": tasks_max - 1})
    return TaskStep(CREATE, new)


def changing(
    change: Change,
    user_id: UUID,
    task_id: UUID,
    values: Mapping[str, Any],
    versions: Versions = None,
    *,
    key: str | None = None,
    tasks_max: int = 0,
) -> TaskStep:
    """The statement that makes a change; if it returns no row, `TaskStep.explain` says why."""
    bound: dict[str, Any] = {
        "user_id": user_id,
        "task_id": task_id,
        "versions": None if versions is None else list(versions),
    }
    if change == "patch":
        bound |= _UNCHANGED | {f"sends_{name}": name in values for name in NULLABLE}
    elif change == "restore":
        bound["others_max"] = tasks_max - 1 if tasks_max else None
    bound |= {f"new_{name}": value for name, value in values.items()}
    if key is not None:
        bound["key"] = hashed_key(change, key)
    if change == "patch" and key is None and values.keys() == {"status"}:
        return TaskStep(PATCH_STATUS, bound)
    return TaskStep(_CHANGES[change][key is not None], bound)


def hashed_key(change: Change, key: str) -> str:
    """The text that the database hashes: a key counts for one kind of change of one task."""
    return f"{change} {key}"


def _task(found: TaskRow) -> TaskRow:
    return {name: value for name, value in found.items() if name not in _FACTS}


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
    Raises `AlreadyDeleted` for a task in the trash. The row has one column more, `replayed`, which tells a new task
    from an old one. Any number of repeats at once make one task, and any number of first writes at once make one user.
    """
    started, step = monotonic(), creating(user_id, values, task_id or uuid4(), tasks_max)
    row = await database.row(step.statement, step.values, turn=user_id)
    if row is None and (makes_owner or tasks_max):
        owner = {"user_id": user_id}
        steps = [(MAKE_OWNER, owner)] * makes_owner + [step, (OWNER, owner)]
        *_, rows, owners = await database.together(steps, database.time_left(started), turn=user_id, name="create")
        row = rows[0] if rows else None
        if row is None and owners:
            raise OwnerErased if owners[0]["is_erased"] else TooMany
    if row is not None:
        del row["is_erased"]
        if row.pop("deleted_at"):
            raise AlreadyDeleted
    return row


async def created_before(database: Database, user_id: UUID, task_id: UUID) -> TaskRow | None:
    """The task that an earlier request has made, or None. Raises `AlreadyDeleted` for one in the trash."""
    found = await database.row(STATES, {"user_id": user_id, "ids": [task_id], "keys": [None]})
    if found is not None and found["deleted_at"]:
        raise AlreadyDeleted
    return found and _task(found)


async def get(database: Database, user_id: UUID, task_id: UUID, timeout: float | None = None) -> TaskRow | None:
    """The task, or None if the user has none with this id."""
    return await database.row(GET, {"user_id": user_id, "task_id": task_id}, timeout)


async def replace(
    database: Database,
    user_id: UUID,
    task_id: UUID,
    values: Mapping[str, Any],
    versions: Versions = None,
    *,
    key: str | None = None,
) -> TaskRow | None:
    """The task with all its values replaced, or None.

    For this function and the next three: with a `key` the change is made once. A repeat finds its hash in the task,
    which remembers the last `KEYS_KEPT`, and the row of its answer has one column more, `replayed`. To tell why a
    change with a key or with `versions` was not made costs a second round trip. Raises `VersionChanged` for a task in
    another version.
    """
    return await _run(database, changing("replace", user_id, task_id, values, versions, key=key))


async def patch(
    database: Database,
    user_id: UUID,
    task_id: UUID,
    changes: Mapping[str, Any],
    versions: Versions = None,
    *,
    key: str | None = None,
) -> TaskRow | None:
    """The task with these changes, or None. No changes read the task and leave it as it is."""
    if changes:
        return await _run(database, changing("patch", user_id, task_id, changes, versions, key=key))
    row = await get(database, user_id, task_id)
    if row and versions is not None and row["version"] not in versions:
        raise VersionChanged(row)
    return row


async def remove(
    database: Database, user_id: UUID, task_id: UUID, versions: Versions = None, *, key: str | None = None
) -> TaskRow | None:
    """The task, now in the trash and with the column `deleted_at`, or None."""
    return await _run(database, changing("delete", user_id, task_id, {}, versions, key=key))


async def restore(
    database: Database,
    user_id: UUID,
    task_id: UUID,
    versions: Versions = None,
    *,
    key: str | None = None,
    tasks_max: int = 0,
) -> TaskRow | None:
    """The task, taken out of the trash, or None if it is not in there.

    With `tasks_max` raises `TooMany` when the user has so many live tasks.
    """
    return await _run(database, changing("restore", user_id, task_id, {}, versions, key=key, tasks_max=tasks_max))


async def _run(database: Database, step: TaskStep) -> TaskRow | None:
    started, values = monotonic(), step.values
    asked = {"user_id": values["user_id"], "ids": [values["task_id"]], "keys": [values.get("key")]}
    while True:
        row = await database.row(step.statement, values, database.time_left(started), turn=values["user_id"])
        if row is not None or not step.may_be_explained:
            return row
        found = await database.row(STATES, asked, database.time_left(started))
        with suppress(RacedPast):
            return step.explain(found)
