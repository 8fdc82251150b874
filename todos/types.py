"""What the values of a task mean, each rule once: the schemas of input, patch and output are made of these."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, StrictBool, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from persistence.models import DESCRIPTION_MAX_LENGTH, TAG_MAX_LENGTH, TAGS_MAX_COUNT, TITLE_MAX_LENGTH

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_DATE_EXAMPLE = "2030-12-31T17:00:00Z or 2030-12-31T18:00:00+01:00"


def _storable(text: str) -> str:
    """Text as PostgreSQL can store it: neither NUL nor half of a surrogate pair, both of which JSON can write."""
    if "\0" in text:
        raise PydanticCustomError("nul_character", "The character NUL (\\u0000) cannot be stored; leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("lone_surrogate", "The text has a lone surrogate, which is no character") from None
    return text


def _tag(text: str) -> str:
    """Trimmed and lower case, which is what its length is measured on (D9)."""
    tag = _storable(text).strip().lower()
    if not 1 <= len(tag) <= TAG_MAX_LENGTH:
        raise PydanticCustomError(
            "tag_length", "A tag has 1 to {most} characters, not counting space around it", {"most": TAG_MAX_LENGTH}
        )
    return tag


def _tags(tags: list[str]) -> list[str]:
    """Each tag once, in the order of its first appearance."""
    unique = list(dict.fromkeys(tags))
    if len(unique) > TAGS_MAX_COUNT:
        raise PydanticCustomError("tags_count", "A task has at most {most} tags", {"most": TAGS_MAX_COUNT})
    return unique


def _timestamp(value: Any) -> datetime:
    """An RFC 3339 timestamp; seconds since 1970 and other forms that pydantic would guess at are refused."""
    if not isinstance(value, str) or not (match := _RFC_3339.fullmatch(value)):
        raise PydanticCustomError("timestamp_form", "Write a date and time like {example}", {"example": _DATE_EXAMPLE})
    if not match[2]:
        raise PydanticCustomError(
            "timestamp_offset", "The offset from UTC is missing; write it like {example}", {"example": _DATE_EXAMPLE}
        )
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("timestamp_range", "There is no such date or time") from None


def _not_past(moment: datetime) -> datetime:
    if moment < datetime.now(UTC):
        raise PydanticCustomError("due_date_past", "The due date of a new task cannot be in the past")
    return moment


def _uuid(value: Any) -> Any:
    """Only the usual form with hyphens, so that a resource has one address."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise PydanticCustomError("uuid_form", "An id is a UUID, such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")
    return value


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_MAX_LENGTH),
    AfterValidator(_storable),
]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_MAX_LENGTH), AfterValidator(_storable)]
Tag = Annotated[
    str, AfterValidator(_tag), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": TAG_MAX_LENGTH})
]
Tags = Annotated[list[Tag], AfterValidator(_tags)]
Completed = StrictBool
DueDate = Annotated[datetime, BeforeValidator(_timestamp)]
NewDueDate = Annotated[DueDate, AfterValidator(_not_past)]
Id = Annotated[UUID, BeforeValidator(_uuid)]
