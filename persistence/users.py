"""All SQL about users."""

from typing import TypedDict
from uuid import UUID, uuid4

from sqlalchemy import bindparam, func, insert, select
from sqlmodel import col

from persistence.database import Database
from persistence.errors import UniqueViolated
from persistence.models import UNUSABLE_PASSWORD, User
from persistence.statement import Statement


class UserId(TypedDict):
    id: UUID


_EMAIL = func.lower(bindparam("email"))

CREATE = Statement(
    insert(User)
    .values(id=bindparam("id"), email=_EMAIL, name=bindparam("name"), password_hash=bindparam("password_hash"))
    .returning(col(User.id)),
    UserId,
)
FIND = Statement(select(col(User.id)).where(col(User.email) == _EMAIL), UserId)

EXISTS = Statement(select(col(User.id)).where(col(User.id) == bindparam("user_id")), UserId)


async def create(
    database: Database, email: str, name: str | None = None, password_hash: str = UNUSABLE_PASSWORD
) -> UUID | None:
    """The id of the new user, or None when the address is taken, in whatever case. One round trip.

    Raises `ConstraintViolated` for what is no address.
    """
    try:
        row = await database.row(CREATE, {"id": uuid4(), "email": email, "name": name, "password_hash": password_hash})
    except UniqueViolated:
        return None
    assert row
    return row["id"]


async def find(database: Database, email: str) -> UUID | None:
    """The id of the user with this address, in whatever case. One round trip."""
    row = await database.row(FIND, {"email": email})
    return row["id"] if row else None


async def exists(database: Database, user_id: UUID, timeout: float | None = None) -> bool:
    """Whether there is a user with this id. One round trip."""
    return await database.row(EXISTS, {"user_id": user_id}, timeout) is not None
