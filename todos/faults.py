"""The faults that pydantic finds in values, in words for clients: the same in a request and in an item of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from persistence.tasks import COLUMNS
from todos.errors import FieldError

FIELD_SHOWN = 200
"""Characters of the name of a field, which may be as long as the body where it is a client's own."""

_ANSWERED = {column.key for column in COLUMNS}
_KINDS = "One of create, replace, patch, delete and restore is expected"
_PLAINER = {
    "missing": "This is required",
    "extra_forbidden": "There is no such field; check its spelling",
    "model_attributes_type": "A JSON object is expected",
    "model_type": "A JSON object is expected",
    "string_type": "A JSON string in double quotes is expected",
    "list_type": "A JSON array in square brackets is expected",
    "bool_type": "true or false is expected, without quotes",
    "union_tag_invalid": _KINDS,
    "union_tag_not_found": _KINDS,
    "string_unicode": "The text has a lone surrogate, which is not a character",
}
"""pydantic's messages by type, where they would puzzle a client; `docs/api.md` lists none, as they are for people."""


def field_error(place: Sequence[str | int], fault: Mapping[str, Any]) -> FieldError:
    """The fault of the value at this place; no place is the whole body."""
    field = ".".join(str(part) for part in place) or "body"
    detail = _PLAINER.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").replace(" after validation", "")
    if fault["type"] == "extra_forbidden" and field in _ANSWERED:
        detail = "This cannot be set here; leave it out"
    return {"field": field[:FIELD_SHOWN], "detail": detail}
