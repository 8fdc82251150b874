"""All SQL about the changes of a user's tasks, for clients that keep a copy of them (D40).

The order is that of the versions. A task's version is the owner's revision at its last change, and the lock on the
owner's row is held until the commit, so no change can appear behind a place that a client has passed
(docs/adr/0032-revisions-and-the-feed.md).
"""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from persistence.tasks import COLUMNS, LIVE, MINE, OWNERS, TABLE, USER_ID, TaskRow

_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=(1 << 128) - 1)


@dataclass(frozen=True)
class Place:
    """How far a client has come: the version and the id of the last task that it has passed.

    `since` is the owner's revision when its walk began. What was deleted by then, it never had.
    """

    version: int = 0
    task_id: UUID = _FIRST_ID
    since: int = 0

    @property
    def seen(self) -> int:
        """The revision that the copy is of, at least; 0 for a client that has nothing yet."""
        # Many tasks have one version where the trash was emptied, and a page may end between them.
        return max(self.version - (self.task_id != _LAST_ID), self.since)


BEGINNING = Place()


class Gone(Exception):
    """The changes since this place are no longer known."""


def _bound(name: str) -> sa.ColumnElement[Any]:
    return sa.bindparam(name, type_=sa.BigInteger())


_SEEN = _bound("seen")
_ZERO: sa.ColumnElement[Any] = sa.literal_column("0")
_NEWEST = sa.func.coalesce(sa.select(sa.func.max(TABLE.c.version)).where(MINE).scalar_subquery(), _ZERO)
# A client may have seen a version beyond the revision only if a task still has it, as one that was inserted by hand.
_IS_GONE = sa.and_(
    _SEEN != _ZERO, sa.or_(OWNERS.c.horizon > _SEEN, sa.and_(OWNERS.c.revision < _SEEN, _NEWEST < _SEEN))
)
_CHANGED = (
    sa.select(*COLUMNS, TABLE.c.deleted_at, TABLE.c.is_erased.label("erased"))
    .where(
        MINE,
        sa.tuple_(TABLE.c.version, TABLE.c.id) > sa.tuple_(_bound("version"), sa.bindparam("id", type_=sa.Uuid())),
        LIVE | (TABLE.c.version > sa.func.coalesce(_bound("since"), OWNERS.c.revision)),
    )
    .order_by(TABLE.c.version, TABLE.c.id)
    # When the planner cannot see the limit, it reads in order and stops, however few tasks it thinks there are.
    .limit(sa.select(_bound("limit")).scalar_subquery())
    .correlate(OWNERS)
    .lateral("changed")
)
# A join with the one row of the owner is a loop over the tasks, which keeps their order. Sorting them again would take
# a third of the time.
CHANGES = Statement(
    "changes",
    sa.select(*_CHANGED.c, OWNERS.c.revision, _IS_GONE.label("is_gone"))
    .select_from(OWNERS.outerjoin(_CHANGED, sa.true()))
    .where(OWNERS.c.id == USER_ID),
)


async def page(database: Database, user_id: UUID, limit: int, after: Place) -> tuple[list[TaskRow], Place, bool]:
    """At most `limit` tasks that have changed since that place, the place after them, and whether there are more.

    Each is as it is now, with `deleted_at` and `erased`. What was deleted before the walk began is left out. Raises
    `Gone`. One round trip; its cost does not grow with the tasks of the user, but on a first walk, which passes over
    what was deleted.
    """
    values = {
        "user_id": user_id, "version": after.version, "id": after.task_id, "since": after.since or None,
        "seen": after.seen, "limit": limit + 1,
    }  # fmt: skip
    walks = after.version < after.since or after == BEGINNING
    rows = await (database.long_rows(CHANGES, values, user_id) if walks else database.rows(CHANGES, values))
    if not rows:
        if after.seen:
            raise Gone
        return [], BEGINNING, False
    revision: int = rows[0]["revision"]
    if rows[0]["is_gone"]:
        raise Gone
    items = rows[:limit] if rows[0]["id"] else []
    for item in items:
        del item["revision"], item["is_gone"]
    passed = replace(after, since=after.since or revision)
    if len(rows) > limit:
        return items, replace(passed, version=items[-1]["version"], task_id=items[-1]["id"]), True
    # All up to the revision has been passed, what was left out as well, so that nothing reads it again.
    newest = max(revision, after.version, items[-1]["version"] if items else 0)
    return items, replace(passed, version=newest, task_id=_LAST_ID), False
