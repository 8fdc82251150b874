"""All SQL about users: making one, its account, and erasing it (D35, D36).

An erased account is a row with the id alone. Nothing is made under that id again while the row is there, as a task
belongs to a user that is not erased (docs/adr/0028-erased-accounts.md).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from psycopg.rows import class_row
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from persistence import addresses, tasks
from persistence.models import UNUSABLE_PASSWORD, User
from persistence.postgres.database import Database
from persistence.postgres.errors import NO_SUCH_KEY, SchemaMismatch, cause_of
from persistence.postgres.statement import Statement
from persistence.task_lists import ALONE

TABLE = User.__table__  # type: ignore[attr-defined] # SQLModel does not declare it
_USER_ID: sa.ColumnElement[Any] = sa.bindparam("user_id", type_=sa.Uuid())


@dataclass(frozen=True)
class Account:
    """A user in numbers. `created_at` is None for one that has no row yet."""

    created_at: datetime | None
    is_erased: bool
    total: int
    pending: int
    completed: int


@dataclass(frozen=True)
class ListedUser:
    """A user as an operator sees it."""

    id: UUID
    email: str | None
    created_at: datetime
    tasks: int


_NEW = insert(User).values(
    id=sa.bindparam("id"),
    email=sa.bindparam("email"),
    name=sa.bindparam("name"),
    password_hash=sa.bindparam("password_hash"),
)
CREATE = Statement("create_user", _NEW.on_conflict_do_nothing(index_elements=["email"]).returning(col(User.id)))
_BY_EMAIL = sa.select(TABLE.c.id).where(TABLE.c.email == sa.bindparam("email"))
FIND = Statement("find_user", _BY_EMAIL)

_COUNTS = (
    sa.select(
        sa.func.count().label("total"),
        sa.func.count().filter(tasks.TABLE.c.status == tasks.PENDING).label("pending"),
        sa.func.count().filter(tasks.TABLE.c.status == tasks.COMPLETED).label("completed"),
    )
    .where(tasks.MINE, tasks.LIVE, ALONE)
    .subquery("counts")
)
ACCOUNT = Statement(
    "account",
    sa.select(
        TABLE.c.created_at,
        sa.func.coalesce(TABLE.c.is_erased, sa.false()).label("is_erased"),
        _COUNTS.c.total,
        _COUNTS.c.pending,
        _COUNTS.c.completed,
    ).select_from(_COUNTS.outerjoin(TABLE, TABLE.c.id == _USER_ID)),
)

_NUMBER_OF_TASKS = sa.select(sa.func.count().label("tasks")).select_from(tasks.TABLE).where(tasks.LIVE)

# The row is deleted and `MARK` makes another one, so that each column has its default, also one that is added later,
# and the foreign key deletes the tasks: it looks for them when it has locked the row, and thus finds those of creates
# that were under way, too.
# Citus runs the parts one after the other: the tasks are counted before the row goes.
_COUNTED = _NUMBER_OF_TASKS.where(tasks.MINE).cte("counted")
_GONE = (
    sa.delete(TABLE)
    .where(
        TABLE.c.id == _USER_ID,
        ~TABLE.c.is_erased,
        sa.select(_COUNTED.c.tasks).scalar_subquery() >= sa.literal_column("0"),
    )
    .returning(TABLE.c.id)
    .cte("gone")
)
# There is no foreign key while a database is being spread.
_CLEARED = sa.delete(tasks.TABLE).where(tasks.MINE, tasks.TABLE.c.user_id == _GONE.c.id).cte("cleared")
ERASE = Statement("erase", sa.select(_COUNTED.c.tasks).add_cte(_CLEARED))
# A statement of its own: Citus sends all nodes what an INSERT takes from another part of its statement.
MARK = Statement(
    "mark",
    insert(tasks.OWNERS).values(id=_USER_ID, is_active=sa.false(), is_erased=sa.true()).on_conflict_do_nothing(),
)

_OLD = sa.func.now() - sa.func.make_interval(
    *(sa.literal_column("0") for _ in range(6)), sa.bindparam("seconds", type_=sa.Double())
)
_PURGED = sa.delete(TABLE).where(TABLE.c.is_erased, TABLE.c.updated_at < _OLD).returning(TABLE.c.id).cte("purged")
PURGE = Statement("purge", sa.select(sa.func.count().label("purged")).select_from(_PURGED))
_LIST = sa.select(
    TABLE.c.id,
    TABLE.c.email,
    TABLE.c.created_at,
    _NUMBER_OF_TASKS.where(tasks.TABLE.c.user_id == TABLE.c.id).scalar_subquery().label("tasks"),
).order_by(TABLE.c.created_at, TABLE.c.id)
LIST = Statement("list_users", _LIST.where(~TABLE.c.is_erased))
LIST_MARKS = Statement("list_marks", _LIST.where(TABLE.c.is_erased))


async def create(
    database: Database, email: str, name: str | None = None, password_hash: str = UNUSABLE_PASSWORD
) -> UUID | None:
    """The id of the new user, or None when the address is taken, in whatever case. One round trip.

    In a spread database it waits for all others that write addresses, looks on all nodes, and takes six round trips.
    Raises `ConstraintViolated` for text that is not an address.
    """
    values = {"id": uuid4(), "email": email.lower(), "name": name, "password_hash": password_hash}
    try:
        row = await database.row(CREATE, values)
    except SchemaMismatch as error:
        if (cause := cause_of(error)) is None or cause.sqlstate != NO_SUCH_KEY:
            raise
        return await _create_in_spread(database, values)
    return row["id"] if row else None


async def _create_in_spread(database: Database, values: dict[str, Any]) -> UUID | None:
    async with database.session() as session:
        connection = await session.connection()
        await connection.exec_driver_sql(addresses.LOCK)
        if (await connection.execute(_BY_EMAIL, values)).first():
            return None
        await connection.execute(_NEW, values)
    user_id: UUID = values["id"]
    return user_id


async def find(database: Database, email: str) -> UUID | None:
    """The id of the user with this address, in whatever case. One round trip, in a spread database to all shards."""
    row = await database.row(FIND, {"email": email.lower()})
    return row["id"] if row else None


async def account(database: Database, user_id: UUID) -> Account:
    """The user in numbers, all of one moment. One round trip, which reads all tasks of the user."""
    [row] = await database.long_rows(ACCOUNT, {"user_id": user_id}, user_id)
    return Account(**row)


async def erase(database: Database, user_id: UUID) -> int:
    """Deletes the tasks and all that is known of the user, leaves the mark, and returns the number of the tasks.

    One round trip, unless the user's first write comes at the same moment. May be repeated; the mark stays as it is.
    """
    started, values = monotonic(), {"user_id": user_id}
    steps = [(statement, values) for statement in (ERASE, MARK, tasks.OWNER)]
    [found], _, [owner] = await database.long_together(steps, user_id, "erase")
    while not owner["is_erased"]:
        # A row came that the first step could not see; the next one can.
        [found], _, [owner] = await database.together(steps, database.time_left(started), turn=user_id, name="erase")
    number: int = found["tasks"]
    return number


async def purge(database: Database, seconds: float) -> int:
    """Removes the marks that are older, and returns their number. One round trip, which reads all users."""
    [row] = await database.rows(PURGE, {"seconds": seconds})
    number: int = row["purged"]
    return number


async def listed(database: Database, *, erased: bool = False) -> AsyncIterator[ListedUser]:
    """All users, or the marks of the erased ones, the oldest first and all of one moment.

    They are read as the caller goes on, so that any number fits into memory. It has no time limit.
    """
    async with (
        database.connection() as connection,
        connection.cursor("users", row_factory=class_row(ListedUser)) as cursor,
    ):
        await cursor.execute((LIST_MARKS if erased else LIST).query)
        async for user in cursor:
            yield user
