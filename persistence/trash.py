"""All SQL about deleted tasks: pages of the trash, and erasing, which leaves a tombstone for the feed of changes (D41).

`persistence/tasks.py` puts tasks into the trash and takes them out.
"""

from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql.dml import UpdateBase

from persistence.models import ERASED_TITLE, Task
from persistence.postgres.database import Database
from persistence.postgres.errors import OutcomeUnknown, Unavailable
from persistence.postgres.statement import Statement
from persistence.tasks import COLUMNS, MINE, ONE, TABLE, THIS, TRASHED, VALUES, TaskRow, raised, time_of

ERASED_AT_ONCE = 1000
"""Tasks that one statement erases, so that none of them takes long and each is a step that stays."""

_LIMIT: sa.ColumnElement[Any] = sa.bindparam("limit", type_=sa.BigInteger())
_ORDER = (TABLE.c.deleted_at.desc(), TABLE.c.id.desc())
# When the planner cannot see the limit, it reads in order and stops, however few tasks it thinks there are.
_PAGE = (
    sa.select(*COLUMNS, TABLE.c.deleted_at).where(MINE, TRASHED).order_by(*_ORDER)
    .limit(sa.select(_LIMIT).scalar_subquery())
)  # fmt: skip
PAGE = Statement("trash", _PAGE)
PAGE_AFTER = Statement(
    "trash",
    _PAGE.where(
        sa.tuple_(TABLE.c.deleted_at, TABLE.c.id)
        < sa.tuple_(
            sa.bindparam("after", type_=TABLE.c.deleted_at.type), sa.bindparam("after_id", type_=TABLE.c.id.type)
        )
    ),
)


def _blank(name: str) -> Any:
    """The value of this column in a tombstone."""
    column = TABLE.c[name]
    if column.nullable:
        return sa.null()
    return column.server_default.arg if column.server_default else ERASED_TITLE


def erased(owner: sa.CTE) -> Mapping[str, Any]:
    """The columns of a task that becomes a tombstone by this revision of its owner: nothing of what it was is left."""
    return {
        **{name: _blank(name) for name in (*VALUES, "completed_at", "applied_keys")},
        "is_erased": sa.true(),
        "updated_at": time_of(owner.c.revision),
        "version": owner.c.revision,
    }


def _erase() -> Statement:
    owner = raised(sa.exists(ONE).where(THIS, TRASHED))
    return Statement("erase_task", sa.update(Task).where(THIS, TRASHED).values(erased(owner)).returning(TABLE.c.id))


def due(condition: sa.ColumnElement[bool]) -> sa.CTE:
    """At most `limit` tasks of the owner that meet this, as they are when the statement begins."""
    return sa.select(TABLE.c.id, TABLE.c.version).where(MINE, condition).limit(_LIMIT).cte("due")


def as_it_was(due: sa.CTE) -> sa.ColumnElement[bool]:
    """Holds for a task that has not changed while the statement waited for the owner, as it has no other version.

    Arrays, because PostgreSQL looks up what is in them by a key; in a join it may read all tasks of the owner.
    """
    ids, versions = (sa.func.array(sa.select(column).scalar_subquery()) for column in (due.c.id, due.c.version))
    return sa.and_(MINE, TABLE.c.id == sa.any_(ids), TABLE.c.version == sa.any_(versions))


def counted(name: str, due: sa.CTE, change: UpdateBase) -> Statement:
    """Makes the change, and tells how many tasks were `found`, and how many `changed`: fewer if others were faster."""
    counts = (
        sa.select(sa.func.count()).select_from(cte).scalar_subquery().label(label)
        for label, cte in (("found", due), ("changed", change.cte("changed")))
    )
    return Statement(name, sa.select(*counts))


def erasing(name: str, condition: sa.ColumnElement[bool]) -> Statement:
    """Erases at most `limit` tasks of the owner that meet this, and counts them."""
    some = due(condition)
    owner = raised(sa.exists(ONE).select_from(some))
    return counted(name, some, sa.update(Task).where(as_it_was(some)).values(erased(owner)).returning(TABLE.c.id))


ERASE, ERASE_SOME = _erase(), erasing("erase_tasks", TRASHED)


async def page(
    database: Database, user_id: UUID, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[TaskRow]:
    """At most `limit` tasks of the trash with their `deleted_at`, the one that was deleted last first. One round trip.

    They are those `after` this time of deletion and id.
    """
    values: dict[str, Any] = {"user_id": user_id, "limit": limit}
    if after is None:
        return await database.rows(PAGE, values)
    values["after"], values["after_id"] = after
    return await database.rows(PAGE_AFTER, values)


async def erase(database: Database, user_id: UUID, task_id: UUID) -> bool:
    """Makes a task of the trash a tombstone, and tells if it was there. One round trip."""
    return await database.row(ERASE, {"user_id": user_id, "task_id": task_id}, turn=user_id) is not None


async def erase_all(database: Database, user_id: UUID) -> None:
    """Makes all tasks of the trash tombstones, one round trip for every `ERASED_AT_ONCE`.

    Each stays done. Raises `OutcomeUnknown` if the time is over before the last.
    """
    started, is_begun = monotonic(), False
    values = {"user_id": user_id, "limit": ERASED_AT_ONCE}
    while True:
        try:
            [row] = await database.rows(ERASE_SOME, values, database.time_left(started), turn=user_id)
        except Unavailable as error:
            if is_begun:
                raise OutcomeUnknown("A part of the trash is erased, and the rest is not yet.") from error
            raise
        if row["found"] < ERASED_AT_ONCE:
            return
        is_begun = True
