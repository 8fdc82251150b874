"""All SQL about users."""

from uuid import UUID, uuid4

from sqlalchemy import bindparam, func, insert, select
from sqlmodel import col

from persistence.models import UNUSABLE_PASSWORD, User
from persistence.postgres.database import Database
from persistence.postgres.errors import UniqueViolated
from persistence.postgres.statement import Statement

_EMAIL = func.lower(bindparam("email"))

CREATE = Statement(
    insert(User)
    .values(id=bindparam("id"), email=_EMAIL, name=bindparam("name"), password_hash=bindparam("password_hash"))
    .returning(col(User.id))
)
FIND = Statement(select(col(User.id)).where(col(User.email) == _EMAIL))


async def create(
    database: Database, email: str, name: str | None = None, password_hash: str = UNUSABLE_PASSWORD
) -> UUID | None:
    """The id of the new user, or None when the address is taken, in whatever case. One round trip.

    Raises `ConstraintViolated` for text that is not an address.
    """
    try:
        row = await database.row(CREATE, {"id": uuid4(), "email": email, "name": name, "password_hash": password_hash})
    except UniqueViolated:
        return None
    assert row
    user_id: UUID = row["id"]
    return user_id


async def find(database: Database, email: str) -> UUID | None:
    """The id of the user with this address, in whatever case. One round trip."""
    row = await database.row(FIND, {"email": email})
    return row["id"] if row else None
