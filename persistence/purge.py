"""Erases what has been in the trash for long, and removes tombstones that no client needs any more (D41).

It goes owner by owner, and takes a batch of tasks in each statement, which is a transaction of its own. So it holds up
no write for long, can be stopped at any point, and is right beside all other writes, and beside another purge: each
statement locks the owner first, as every write does, and looks again at each task that it meets
(docs/adr/0033-trash-and-tombstones.md).
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from persistence.models import Task
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from persistence.tasks import OWNERS, TABLE, TRASHED, USER_ID
from persistence.trash import as_it_was, counted, due, erasing

BATCH = 500
"""Tasks in one transaction."""
OWNERS_PAGE = 1000
"""Owners that are looked up at a time."""

_BEFORE: sa.ColumnElement[Any] = sa.bindparam("before", type_=sa.DateTime(timezone=True))
# A tombstone has been deleted before it was erased, so the index on `deleted_at` finds a few more of them.
_OLD_TRASH = sa.and_(TRASHED, TABLE.c.deleted_at < _BEFORE)
_OLD_TOMBSTONE = sa.and_(
    TABLE.c.deleted_at.is_not(None), TABLE.c.is_erased, TABLE.c.deleted_at < _BEFORE, TABLE.c.updated_at < _BEFORE
)


def _removing() -> Statement:
    old = due(_OLD_TOMBSTONE)
    # A cursor from before the newest of them would miss that it is gone, so it is refused from the same moment on.
    newest = sa.select(sa.func.max(old.c.version)).scalar_subquery()
    owner = (
        sa.update(OWNERS)
        .where(OWNERS.c.id == USER_ID, sa.exists().select_from(old))
        .values(horizon=sa.func.greatest(OWNERS.c.horizon, newest))
        .returning(OWNERS.c.id)
        .cte("owner")
    )
    return counted(
        "remove_old_tombstones",
        old,
        sa.delete(Task).where(as_it_was(old), TABLE.c.user_id == owner.c.id).returning(TABLE.c.id),
    )


def _owners(condition: sa.ColumnElement[bool]) -> Statement:
    first: sa.ColumnElement[Any] = sa.bindparam("first", type_=sa.Uuid())
    owners = sa.select(TABLE.c.user_id).distinct().where(TABLE.c.user_id >= first, condition)
    return Statement("owners_to_purge", owners.order_by(TABLE.c.user_id).limit(sa.bindparam("limit")))


def _number(condition: sa.ColumnElement[bool]) -> Statement:
    return Statement("number_to_purge", sa.select(sa.func.count().label("number")).where(condition))


ERASE_OLD_TRASH = erasing("erase_old_trash", _OLD_TRASH)
REMOVE_OLD_TOMBSTONES = _removing()
MOMENT = Statement(
    "moment",
    sa.select(
        (sa.func.now() - sa.func.make_interval(*[sa.literal_column("0")] * 3, sa.bindparam("days"))).label("moment")
    ),
)


@dataclass(frozen=True)
class Kind:
    """A kind of tasks to purge: the statements that count all, find the owners, and take a batch of one of them."""

    number: Statement
    owners: Statement
    batch: Statement


TRASH = Kind(_number(_OLD_TRASH), _owners(_OLD_TRASH), ERASE_OLD_TRASH)
TOMBSTONES = Kind(_number(_OLD_TOMBSTONE), _owners(_OLD_TOMBSTONE), REMOVE_OLD_TOMBSTONES)


async def days_ago(database: Database, days: int) -> datetime:
    """The moment so many days ago by the clock of the database. One round trip."""
    [row] = await database.rows(MOMENT, {"days": days})
    moment: datetime = row["moment"]
    return moment


async def number(database: Database, kind: Kind, before: datetime) -> int:
    """How many there are. One round trip, which reads the trash and the tombstones of all owners."""
    [row] = await database.rows(kind.number, {"before": before})
    number: int = row["number"]
    return number


async def purge(database: Database, kind: Kind, before: datetime) -> AsyncGenerator[int]:
    """Purges all that was in the trash, or erased, before this moment, and yields the number of each batch."""
    first, page = UUID(int=0), [UUID(int=0)] * OWNERS_PAGE
    while len(page) == OWNERS_PAGE:
        rows = await database.rows(kind.owners, {"first": first, "before": before, "limit": OWNERS_PAGE})
        page = [row["user_id"] for row in rows]
        for first in page:
            found = BATCH
            while found == BATCH:
                [row] = await database.rows(kind.batch, {"user_id": first, "before": before, "limit": BATCH})
                found = row["found"]
                yield row["changed"]
