"""The SQL of exports and imports: all tasks of an owner, many at a time (D44)."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from persistence.models import Task
from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from persistence.tasks import (
    COLUMNS,
    LIVE,
    MAKE_OWNER,
    MINE,
    ONE,
    OWNERS,
    TABLE,
    TRASHED,
    USER_ID,
    VALUES,
    TaskRow,
    raised,
)

EXPORTED = (*COLUMNS, TABLE.c.deleted_at)
# The order of an index, in which the first rows come as soon as the last.
_EXPORT = sa.select(*EXPORTED).where(MINE, ~TABLE.c.is_erased).order_by(TABLE.c.version, TABLE.c.id)
EXPORT = Statement("export", _EXPORT)
EXPORT_LIVE = Statement("export", _EXPORT.where(LIVE))

NUMBER = Statement(
    "number",
    sa.select(sa.func.count().label("number"))
    .select_from(TABLE)
    .where(MINE, ~TABLE.c.is_erased, sa.bindparam("with_trash", type_=sa.Boolean()) | LIVE),
)


async def number(database: Database, user_id: UUID, *, with_trash: bool) -> int:
    """The tasks that an export has."""
    [row] = await database.long_rows(NUMBER, {"user_id": user_id, "with_trash": with_trash}, user_id)
    found: int = row["number"]
    return found


def export(database: Database, user_id: UUID, *, with_trash: bool) -> AsyncGenerator[list[TaskRow]]:
    """The tasks in batches, all of one moment, in the order of their last changes; the caller closes the generator.

    With `deleted_at`, which is None for a live task. Raises what `Database.stream` raises.
    """
    return database.stream(EXPORT if with_trash else EXPORT_LIVE, {"user_id": user_id}, user_id)


IMPORTED = ("id", *VALUES, "created_at", "updated_at", "completed_at", "deleted_at")
"""The columns of a task that comes from elsewhere, with its times."""
# An array of arrays cannot have rows of different lengths, and a tag has no comma.
_TYPES = {name: sa.Text() if name == "tags" else TABLE.c[name].type for name in IMPORTED}
_NEW = (
    sa.func.unnest(*(sa.cast(sa.bindparam(name), ARRAY(type_)) for name, type_ in _TYPES.items()))
    .table_valued(*(sa.column(name, type_) for name, type_ in _TYPES.items()), name="new")
    .render_derived()
)
_OWNER = raised(~OWNERS.c.is_erased)
_VALUES = {
    **{name: _NEW.c[name] for name in IMPORTED},
    "tags": sa.func.string_to_array(_NEW.c.tags, sa.literal_column("','")),
    "user_id": _OWNER.c.id,
    "version": _OWNER.c.revision,
}
IMPORT = Statement(
    "import",
    insert(Task)
    .from_select(list(_VALUES), sa.select(*_VALUES.values()).select_from(_NEW.join(_OWNER, sa.true())))
    .on_conflict_do_nothing()
    .returning(TABLE.c.id),
)
"""One revision for all of them, as they become visible together."""
_IDS = sa.cast(sa.bindparam("ids"), ARRAY(sa.Uuid()))
KNOWN = Statement(
    "known", sa.select(TABLE.c.id, TABLE.c.deleted_at, TABLE.c.is_erased).where(MINE, TABLE.c.id == sa.any_(_IDS))
)


def _number(name: str, condition: sa.ColumnElement[bool]) -> sa.Label[Any]:
    tasks: sa.Select[Any] = sa.select(ONE).select_from(TABLE).where(MINE, condition)
    some = tasks.limit(sa.bindparam("most", type_=sa.Integer())).subquery(f"{name}_tasks")
    return sa.select(sa.func.count()).select_from(some).scalar_subquery().label(name)


OWNER_AND_NUMBERS = Statement(
    "owner_and_numbers",
    sa.select(OWNERS.c.is_erased, _number("live", LIVE), _number("trashed", TRASHED)).where(OWNERS.c.id == USER_ID),
)


@dataclass(frozen=True)
class Known:
    """A task that is there already."""

    deleted_at: datetime | None
    is_erased: bool


@dataclass(frozen=True)
class Owner:
    """The owner of imported tasks, with the number of those that it has already, as far as they were counted."""

    is_erased: bool = False
    live: int = 0
    trashed: int = 0


async def owner_and_numbers(database: Database, user_id: UUID, most: int) -> Owner | None:
    """The owner, with its tasks counted up to `most` of each kind; None if there is no such user."""
    values = {"user_id": user_id, "most": most}
    # Counting takes as long as there are tasks.
    rows = database.long_rows(OWNER_AND_NUMBERS, values, user_id) if most else database.rows(OWNER_AND_NUMBERS, values)
    found = await rows
    return Owner(**found[0]) if found else None


async def known(database: Database, user_id: UUID, ids: list[UUID]) -> dict[UUID, Known]:
    """Those of the user's tasks that have these ids, in whatever state. One round trip."""
    found = await database.rows(KNOWN, {"user_id": user_id, "ids": ids})
    return {row.pop("id"): Known(**row) for row in found}


async def insert_tasks(
    database: Database, user_id: UUID, tasks: Sequence[TaskRow], *, makes_owner: bool = False
) -> set[UUID]:
    """Inserts tasks with the columns of `IMPORTED`, all or none, and returns the ids of those that were not there.

    One round trip. With `makes_owner` the user is made, too; without a user there is nothing to insert.
    """
    columns = {name: [task[name] for task in tasks] for name in IMPORTED}
    columns["tags"] = [",".join(tags) for tags in columns["tags"]]
    owner = {"user_id": user_id}
    steps = [(MAKE_OWNER, owner)] * makes_owner + [(IMPORT, owner | columns)]
    *_, rows = await database.together(steps, name="import", turn=user_id)
    return {row["id"] for row in rows}
