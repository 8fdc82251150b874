"""The types of values, each rule once: the schemas of input, patch, output and query are made of these.

A rule that JSON Schema can express stands in the contract too (`WithJsonSchema`); lengths count characters there, in
Python and in PostgreSQL alike.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from persistence.models import DESCRIPTION_MAX_LENGTH, TAG_MAX_LENGTH, TAGS_MAX_COUNT, TITLE_MAX_LENGTH
from todos.text import LONGEST_SEQUENCE, NOTHING, clean, is_visible, lower_case, trimmed

_TIME = r"([01]\d|2[0-3]):[0-5]\d"
_RFC_3339 = re.compile(rf"\d{{4}}-\d\d-\d\d[Tt ]{_TIME}:[0-5]\d(\.\d{{1,9}})?(?P<offset>[Zz]|[+-]{_TIME})?", re.ASCII)
_RFC_3339_UNESCAPED = re.compile(r"(.+) (\d\d:\d\d)", re.ASCII)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)
# Without the comma, which would join what is sent in two headers.
_KEY = re.compile(r"[!-+\--~]+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
TAGS_SENT_MAX = 100
"""Tags that are looked at, repeated ones included."""
SEARCH_MAX_LENGTH = 100
SEARCH_MAX_WORDS = 10
"""Each word is looked for in each text, so both bound what one request can cost."""
IDEMPOTENCY_KEY_MAX_LENGTH = 255

_DATE_EXAMPLE = "2030-12-31T17:00:00Z or 2030-12-31T18:00:00+01:00"


def _title(text: str) -> str:
    """Trimmed, which is what its length is measured on (D4)."""
    title = clean(trimmed(text), TITLE_MAX_LENGTH)
    if not 1 <= len(title) <= TITLE_MAX_LENGTH:
        raise PydanticCustomError(
            "title_length",
            "A title has 1 to {most} characters, not counting space around it",
            {"most": TITLE_MAX_LENGTH},
        )
    if not is_visible(title):
        raise PydanticCustomError("title_invisible", "A title needs a character that can be seen")
    return title


def _description(text: str) -> str:
    description = clean(text, DESCRIPTION_MAX_LENGTH)
    if len(description) > DESCRIPTION_MAX_LENGTH:
        raise PydanticCustomError(
            "description_length", "A description has at most {most} characters", {"most": DESCRIPTION_MAX_LENGTH}
        )
    return description


def _tag(text: str) -> str:
    """Trimmed and in lower case, which is what its length is measured on (D9)."""
    tag = clean(trimmed(text), TAG_MAX_LENGTH)
    if len(tag) <= LONGEST_SEQUENCE * TAG_MAX_LENGTH:
        # Making lower case of a whole body takes long.
        tag = lower_case(tag)
    if not 1 <= len(tag) <= TAG_MAX_LENGTH:
        raise PydanticCustomError(
            "tag_length", "A tag has 1 to {most} characters, not counting space around it", {"most": TAG_MAX_LENGTH}
        )
    if not is_visible(tag):
        raise PydanticCustomError("tag_invisible", "A tag needs a character that can be seen")
    if "," in tag:
        raise PydanticCustomError("tag_comma", "A tag has no comma; write two tags as two")
    return tag


def _tags(tags: list[str]) -> list[str]:
    """Each tag once, in the order of its first appearance."""
    unique = list(dict.fromkeys(tags))
    if len(unique) > TAGS_MAX_COUNT:
        raise PydanticCustomError("tags_count", "A task has at most {most} tags", {"most": TAGS_MAX_COUNT})
    return unique


def _timestamp(value: Any) -> datetime:
    """An RFC 3339 timestamp, cut to microseconds, which is what PostgreSQL and Python have.

    Seconds since 1970 and other forms that pydantic would guess at are refused.
    """
    if not isinstance(value, str) or not (match := _RFC_3339.fullmatch(value)):
        raise PydanticCustomError(
            "timestamp_form",
            "Write a date, a time with seconds (and at most 9 decimals of them) and an offset, like {example}",
            {"example": _DATE_EXAMPLE},
        )
    if not match["offset"]:
        raise PydanticCustomError(
            "timestamp_offset", "The offset from UTC is missing; write it like {example}", {"example": _DATE_EXAMPLE}
        )
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("timestamp_range", "There is no such date or time") from None


def _query_timestamp(value: Any) -> datetime:
    """The same in a query, where a `+` that was not escaped has become a space on its way."""
    if isinstance(value, str) and (match := _RFC_3339_UNESCAPED.fullmatch(value)) and "T" in match[1].upper():
        raise PydanticCustomError("timestamp_plus", "In a URL the + of an offset is written %2B, or use Z")
    return _timestamp(value)


def _query_bool(value: Any) -> bool:
    if value not in ("true", "false"):
        raise PydanticCustomError("query_bool", "Input should be true or false")
    return bool(value == "true")


def whole_number(value: Any) -> int:
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise PydanticCustomError("whole_number", "Input should be a whole number")
    return int(value)


def _unjoined(values: Any) -> Any:
    """Refuses a list with commas, as other APIs take it: it would be one value, which no task has."""
    if any("," in str(value) for value in values):
        raise PydanticCustomError(
            "joined_values", "For several values repeat the parameter instead of putting commas between"
        )
    return values


def _search_terms(text: str) -> list[str]:
    text = clean(text, SEARCH_MAX_LENGTH)
    if len(text) > SEARCH_MAX_LENGTH or not 1 <= len(words := _words(text)) <= SEARCH_MAX_WORDS:
        raise PydanticCustomError(
            "search_words",
            "Input should have 1 to {words} words, and at most {most} characters",
            {"words": SEARCH_MAX_WORDS, "most": SEARCH_MAX_LENGTH},
        )
    return words


def _words(text: str) -> list[str]:
    """Each word once that has something to see."""
    return [word for word in dict.fromkeys(map(trimmed, text.split())) if is_visible(word)]


def _idempotency_key(key: str) -> str:
    if not _KEY.fullmatch(key) or len(key) > IDEMPOTENCY_KEY_MAX_LENGTH:
        raise PydanticCustomError(
            "idempotency_key",
            "A key has 1 to {most} visible ASCII characters, without space and comma",
            {"most": IDEMPOTENCY_KEY_MAX_LENGTH},
        )
    return key


def is_id(text: str) -> bool:
    """True for the usual form of a UUID with hyphens, so that a resource has one address."""
    return _UUID.fullmatch(text) is not None


def _uuid(value: Any) -> Any:
    if not isinstance(value, str) or not is_id(value):
        raise PydanticCustomError(
            "uuid_form", "An id is a UUID with hyphens, such as 3fa85f64-5717-4562-b3fc-2c963f66afa6"
        )
    return value


# Marks show nothing by themselves either, but they would be 300 ranges more.
_VISIBLE = rf"^[^\u0000]*[^{NOTHING}][^\u0000]*$"
_VISIBLE_TAG = rf"^[^\u0000,]*[^,{NOTHING}][^\u0000,]*$"
# A task that is older than a pattern may break it, so that patterns are no promise of the answers.
_TITLE: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": TITLE_MAX_LENGTH}
_TAG: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": TAG_MAX_LENGTH}
_DATE_SCHEMA = WithJsonSchema({"type": "string", "format": "date-time"})

Title = Annotated[
    str,
    AfterValidator(_title),
    WithJsonSchema(_TITLE),
    WithJsonSchema(_TITLE | {"pattern": _VISIBLE}, mode="validation"),
]
Description = Annotated[
    str,
    AfterValidator(_description),
    WithJsonSchema({"type": "string", "maxLength": DESCRIPTION_MAX_LENGTH, "pattern": r"^[^\u0000]*$"}),
]
Tag = Annotated[
    str,
    AfterValidator(_tag),
    WithJsonSchema(_TAG),
    WithJsonSchema(_TAG | {"pattern": _VISIBLE_TAG}, mode="validation"),
]
Tags = Annotated[
    list[Tag],
    Field(max_length=TAGS_SENT_MAX),
    AfterValidator(_tags),
    # Repeated tags are dropped before they are counted, which a schema cannot say.
    Field(json_schema_extra={"maxItems": TAGS_MAX_COUNT}),
]
Timestamp = Annotated[datetime, BeforeValidator(_timestamp), _DATE_SCHEMA]
Id = Annotated[UUID, BeforeValidator(_uuid)]
_HEX = "[0-9a-fA-F]"
UserId = Annotated[
    Id,
    WithJsonSchema({"type": "string", "pattern": f"^(me|{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}})$"}),
]
"""A user in a path; `web/access.py` has put the id where `me` was sent."""

Repeatable = BeforeValidator(_unjoined)
"""For a parameter of a query that may be given several times."""
QueryBool = Annotated[bool, BeforeValidator(_query_bool)]
QueryTimestamp = Annotated[datetime, BeforeValidator(_query_timestamp), _DATE_SCHEMA]
SearchTerms = Annotated[
    list[str],
    BeforeValidator(_search_terms),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": SEARCH_MAX_LENGTH, "pattern": _VISIBLE}),
]
"""Words to search for, each once."""
IdempotencyKey = Annotated[
    str,
    AfterValidator(_idempotency_key),
    WithJsonSchema({"type": "string", "pattern": f"^[!-+\\--~]{{1,{IDEMPOTENCY_KEY_MAX_LENGTH}}}$"}),
]
