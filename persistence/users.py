"""All SQL about users."""

from uuid import UUID, uuid4

from sqlalchemy import bindparam, insert
from sqlmodel import col

from persistence.models import UNUSABLE_PASSWORD, User
from persistence.postgres.database import Database
from persistence.postgres.errors import UniqueViolated
from persistence.postgres.statement import Statement

CREATE = Statement(
    insert(User)
    .values(
        id=bindparam("id"),
        email=bindparam("email"),
        name=bindparam("name"),
        password_hash=bindparam("password_hash"),
    )
    .returning(col(User.id))
)


async def create(
    database: Database, email: str, name: str | None = None, password_hash: str = UNUSABLE_PASSWORD
) -> UUID | None:
    """The id of the new user, or None when the address is taken, in whatever case. One round trip.

    Raises `ConstraintViolated` for text that is not an address.
    """
    try:
        values = {"id": uuid4(), "email": email.lower(), "name": name, "password_hash": password_hash}
        row = await database.row(CREATE, values)
    except UniqueViolated:
        return None
    assert row
    user_id: UUID = row["id"]
    return user_id
