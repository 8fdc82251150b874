"""The tables, and every rule about their data that PostgreSQL can hold (D1-D9).

Tables are made by `migrations/`, never from here; `tests/database/test_schema.py` proves that both agree. SQLModel does
not validate table classes: `todos/schemas.py` checks what clients send, and these constraints check everything.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAliasType, get_args
from uuid import UUID, uuid4

import pydantic
from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    desc,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, Relationship, SQLModel

TITLE_MAX_LENGTH = 200
DESCRIPTION_MAX_LENGTH = 1000
TAGS_MAX_COUNT = 20
TAG_MAX_LENGTH = 10
EMAIL_MAX_LENGTH = 254
"""The longest address that SMTP can carry (RFC 5321, section 4.5.3.1.3)."""

ERASED_TITLE = "(erased)"
"""The title of a tombstone, as each task has one (D41)."""

UNUSABLE_PASSWORD = "!"  # noqa: S105 - a mark that no hash can equal, not a secret
"""The `password_hash` of a user that signs in elsewhere (D2)."""

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


# The descriptions stand in the contract.
type Status = Annotated[Literal["pending", "completed"], pydantic.Field(description="Whether a task is done.")]
"""The one stored fact about completion (D5)."""
type Priority = Annotated[Literal["low", "medium", "high"], pydantic.Field(description="How urgent a task is.")]
"""PostgreSQL sorts the values in this order."""


def values_of(enum: TypeAliasType) -> tuple[str, ...]:
    """The values of one of the two types above, in their order."""
    return get_args(get_args(enum.__value__)[0])


_UTC_TIMESTAMP = DateTime(timezone=True)
_NOW: dict[str, Any] = {"server_default": func.now()}
# For a row that comes without a revision, by hand or by a tool. `persistence/tasks.py` supplies one with each write.
_REVISION: dict[str, Any] = {"server_default": text("(extract(epoch FROM now()) * 1000000)::bigint")}

_LIVE = text("deleted_at IS NULL")

# Only the database says it, so that no statement has to name it, and those of older code go on working.
_FALSE: dict[str, Any] = {"server_default": text("false")}
_NULL: dict[str, Any] = {"server_default": text("NULL")}

# Nothing here depends on the locale of a database or on what its libraries know of Unicode: a rule that needs more than
# ASCII is Python's (docs/adr/0023-one-rule-for-text.md).

# Small letters are made first, as only they have all their capitals: ẞ is its own, that of ß is SS. Both collations map
# letters as Unicode says in full, and as Python does; which of the two there is depends on the server's version.
FOLDED_FUNCTION = """
DO $$
DECLARE
    rules text := (
        SELECT quote_ident(min(collname::text COLLATE "C")) FROM pg_collation
        WHERE collname IN ('pg_unicode_fast', 'und-x-icu') AND collnamespace = 'pg_catalog'::regnamespace
    );
BEGIN
    IF rules IS NULL THEN
        RAISE EXCEPTION 'text cannot be folded here: use PostgreSQL 18 or newer, or a 16 or 17 that is built with ICU';
    END IF;
    EXECUTE 'CREATE FUNCTION folded(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE'
        || ' RETURN upper(lower(value COLLATE ' || rules || ') COLLATE ' || rules || ')';
END
$$
"""
# A CHECK cannot hold a subquery, so the rule for each single tag lives in a function that the CHECK calls.
VALID_TAGS_FUNCTION = f"""
CREATE FUNCTION valid_tags(tags text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(bool_and(tag IS NOT NULL AND char_length(tag) BETWEEN 1 AND {TAG_MAX_LENGTH}
                             AND tag = lower(tag COLLATE "C") AND tag COLLATE "C" !~ '^\\s|\\s$'), true)
           AND count(DISTINCT tag COLLATE "C") = count(*)
           AND coalesce(array_ndims(tags), 1) = 1
    FROM unnest(tags) AS tag
)
"""  # noqa: S608 - a constant is all that is put in
# GIN over the tags alone would hold those of all users in one list each. In PL/pgSQL, because a function in SQL is
# planned anew for each insert, which takes longer than all of its work.
TAG_KEYS_FUNCTION = """
CREATE FUNCTION tag_keys(user_id uuid, tags text[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 20
AS $$
        BEGIN
            RETURN ARRAY(SELECT hashtextextended(tag, uuid_hash_extended(user_id, 0)) FROM unnest(tags) AS tag);
        END
        $$
"""
for _function in (FOLDED_FUNCTION, VALID_TAGS_FUNCTION, TAG_KEYS_FUNCTION):
    event.listen(
        SQLModel.metadata,
        "before_create",
        DDL(_function),  # type: ignore[no-untyped-call] # SQLAlchemy has not annotated it
    )


class User(SQLModel, table=True):
    """An owner of tasks. A user that signs in elsewhere has no e-mail here (D35).

    An erased account is a row with the id alone, a mark that keeps the id from having tasks again (D36).
    """

    __tablename__: ClassVar[str] = "users"
    __table_args__ = (
        CheckConstraint('email = lower(email COLLATE "C")', name="email_lower_case"),
        CheckConstraint(r"""email COLLATE "C" ~ '^[^@\s]+@[^@\s]+$'""", name="email_form"),
        CheckConstraint(f"char_length(email) <= {EMAIL_MAX_LENGTH}", name="email_length"),
        CheckConstraint("password_hash <> ''", name="password_hash_not_empty"),
        # Short, as each write of a task raises the revision here, and PostgreSQL reads the text of all rules for it.
        CheckConstraint("NOT is_erased OR num_nonnulls(email, name) = 0", name="erased_has_no_data"),
        # Only for the foreign key of tasks.
        UniqueConstraint("id", "is_erased"),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    email: str | None = Field(default=None, sa_type=Text, unique=True)
    password_hash: str = Field(
        default=UNUSABLE_PASSWORD, sa_type=Text, sa_column_kwargs={"server_default": UNUSABLE_PASSWORD}
    )
    name: str | None = Field(default=None, sa_type=Text)
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    email_verified: bool = Field(default=False, sa_column_kwargs=_FALSE)
    is_erased: bool | None = Field(default=None, nullable=False, sa_column_kwargs=_FALSE)
    created_at: datetime | None = Field(default=None, nullable=False, sa_type=_UTC_TIMESTAMP, sa_column_kwargs=_NOW)
    updated_at: datetime | None = Field(default=None, nullable=False, sa_type=_UTC_TIMESTAMP, sa_column_kwargs=_NOW)
    revision: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs=_REVISION)
    """Raised by each write of a task of this user, which has it as its version (D39)."""
    horizon: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs=_REVISION)
    """The revision up to which something may be missing in the feed of changes (D40)."""

    tasks: list["Task"] = Relationship(back_populates="user", passive_deletes="all")


class TaskValues(SQLModel):
    """The columns that a client decides about.

    What a statement sets and returns and what a patch may clear follow from this list; `todos/schemas.py` says how each
    looks in JSON.
    """

    title: str = Field(sa_type=Text)
    description: str | None = Field(default=None, sa_type=Text)
    status: Status = Field(
        default="pending",
        sa_type=Enum(*values_of(Status), name="task_status"),
        sa_column_kwargs={"server_default": "pending"},
    )
    priority: Priority = Field(
        default="medium",
        sa_type=Enum(*values_of(Priority), name="task_priority"),
        sa_column_kwargs={"server_default": "medium"},
    )
    due_date: datetime | None = Field(default=None, sa_type=_UTC_TIMESTAMP)
    tags: list[str] = Field(
        default_factory=list, sa_type=ARRAY(Text), sa_column_kwargs={"server_default": text("'{}'")}
    )


class Task(TaskValues, table=True):
    """One thing to do. Its id is unique among the tasks of its owner (D38).

    It is live, or in the trash since `deleted_at`, or erased: a tombstone, which has no data and tells clients only
    that the task is gone (D41).
    """

    __tablename__: ClassVar[str] = "tasks"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        # An owner is a user that is not erased, so that no race can give an erased one a task.
        ForeignKeyConstraint(["user_id", "owner_is_erased"], ["users.id", "users.is_erased"], ondelete="CASCADE"),
        CheckConstraint("NOT owner_is_erased", name="owner_not_erased"),
        CheckConstraint(f"char_length(title) BETWEEN 1 AND {TITLE_MAX_LENGTH}", name="title_length"),
        CheckConstraint(r"""title COLLATE "C" !~ '^\s|\s$'""", name="title_trimmed"),
        CheckConstraint(f"char_length(description) <= {DESCRIPTION_MAX_LENGTH}", name="description_length"),
        CheckConstraint("(status = 'completed') = (completed_at IS NOT NULL)", name="completed_at_says_when"),
        CheckConstraint(
            "due_date BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 23:59:59.999999Z'", name="due_date_range"
        ),
        CheckConstraint(f"cardinality(tags) <= {TAGS_MAX_COUNT}", name="tags_count"),
        CheckConstraint("tags = '{}' OR valid_tags(tags)", name="tags_valid"),
        # That it has no data either would be so long a rule that it cost each write a twentieth.
        CheckConstraint("NOT is_erased OR deleted_at IS NOT NULL", name="erased_is_deleted"),
        # Every list is within one user and newest first unless it says otherwise, so each index starts with the owner
        # and ends with what makes the order total (D12).
        Index("ix_tasks_newest", "user_id", desc("created_at"), desc("id"), postgresql_where=_LIVE),
        Index("ix_tasks_status", "user_id", "status", desc("created_at"), desc("id"), postgresql_where=_LIVE),
        Index("ix_tasks_priority", "user_id", "priority", desc("created_at"), desc("id"), postgresql_where=_LIVE),
        Index("ix_tasks_due_date", "user_id", "due_date", "id", postgresql_where=_LIVE),
        # A search for a tag also reads the list of what is not in the index yet; this bounds the list, in kB.
        Index(
            "ix_tasks_tags",
            text("tag_keys(user_id, tags)"),
            postgresql_using="gin",
            postgresql_with={"gin_pending_list_limit": 64},
            postgresql_where=text("deleted_at IS NULL AND tags <> '{}'"),
        ),
        Index("ix_tasks_changes", "user_id", "version", "id"),
        Index(
            "ix_tasks_trash",
            "user_id",
            "is_erased",
            desc("deleted_at"),
            desc("id"),
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
    )

    id: UUID = Field(default_factory=uuid4)
    user_id: UUID
    created_at: datetime | None = Field(default=None, nullable=False, sa_type=_UTC_TIMESTAMP, sa_column_kwargs=_NOW)
    updated_at: datetime | None = Field(default=None, nullable=False, sa_type=_UTC_TIMESTAMP, sa_column_kwargs=_NOW)
    completed_at: datetime | None = Field(default=None, sa_type=_UTC_TIMESTAMP)
    version: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs=_REVISION)
    owner_is_erased: bool | None = Field(default=None, nullable=False, sa_column_kwargs=_FALSE)
    deleted_at: datetime | None = Field(default=None, sa_type=_UTC_TIMESTAMP, sa_column_kwargs=_NULL)
    is_erased: bool | None = Field(default=None, nullable=False, sa_column_kwargs=_FALSE)
    applied_keys: list[int] | None = Field(default=None, sa_type=ARRAY(BigInteger), sa_column_kwargs=_NULL)
    """Hashes of the keys of the last changes, the newest first (D43)."""

    user: User = Relationship(back_populates="tasks")
