"""The SQL of exports and imports: all tasks of an owner, many at a time (D44)."""

from collections.abc import AsyncGenerator
from uuid import UUID

import sqlalchemy as sa

from persistence.postgres.database import Database
from persistence.postgres.statement import Statement
from persistence.tasks import COLUMNS, LIVE, MINE, TABLE, TaskRow

EXPORTED = (*COLUMNS, TABLE.c.deleted_at)
# The order of an index, in which the first rows come as soon as the last.
_EXPORT = sa.select(*EXPORTED).where(MINE, ~TABLE.c.is_erased).order_by(TABLE.c.version, TABLE.c.id)
EXPORT = Statement("export", _EXPORT)
EXPORT_LIVE = Statement("export", _EXPORT.where(LIVE))


def export(database: Database, user_id: UUID, *, with_trash: bool) -> AsyncGenerator[list[TaskRow]]:
    """The tasks in batches, all of one moment, in the order of their last changes; the caller closes the generator.

    With `deleted_at`, which is None for a live task. Raises what `Database.stream` raises.
    """
    return database.stream(EXPORT if with_trash else EXPORT_LIVE, {"user_id": user_id}, user_id)
