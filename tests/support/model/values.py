"""The values of a task and of a request: what is right, and what the server makes of it."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from unicodedata import category, normalize

from tests.support.contract import FIELDS, NULLABLE, SCHEMAS, Json, validator

type Read = Callable[[Any], Any]
"""Returns a value in the model's terms. Raises `Wrong`."""

STATUSES: list[str] = SCHEMAS["Status"]["enum"]
PRIORITIES: list[str] = SCHEMAS["Priority"]["enum"]


class Wrong(ValueError):
    """A value breaks a rule; `within` names the place in it, if it has parts."""

    def __init__(self, *within: str) -> None:
        super().__init__(*within)
        self.within = within


def fitting(schema: Json, value: Any) -> Any:
    """A value of which the contract says all. Half a surrogate pair is not text."""
    if (isinstance(value, str) and re.search("[\ud800-\udfff]", value)) or not validator(schema).is_valid(value):
        raise Wrong
    return value


def text(value: object, longest: int) -> str:
    """Any characters but NUL and halves of surrogate pairs, in NFC; `longest` counts characters of that."""
    if not isinstance(value, str) or re.search("[\0\ud800-\udfff]", value):
        raise Wrong
    value = normalize("NFC", value)
    if len(value) > longest:
        raise Wrong
    return value


def seen(value: str) -> str:
    """With at least one character that shows something by itself."""
    if all(category(character)[0] in "CMZ" or character == "\u2800" for character in value):
        raise Wrong
    return value


def title(value: Any) -> str:
    """1 to 200 characters, not counting space around it, which is dropped."""
    return seen(text(_trimmed(value), 200))


def tag(value: Any) -> str:
    """Trimmed and lower-cased, then 1 to 10 characters, without a comma."""
    if "," in str(value):
        raise Wrong
    return seen(text(_trimmed(value).lower(), 10))


def tags(value: Any) -> tuple[str, ...]:
    """At most 20 that differ; repeated ones are dropped, the order stays."""
    if not isinstance(value, list):
        raise Wrong
    wrong = [f".{number}" for number, each in enumerate(value) if not is_right(tag, each)]
    if wrong:
        raise Wrong(*wrong)
    different = tuple(dict.fromkeys(map(tag, value)))
    if len(different) > 20:
        raise Wrong
    return different


def timestamp(value: Any) -> datetime:
    """RFC 3339: a date, a time with at most nine digits after the second, six of which count, an offset from UTC."""
    clock = r"([01]\d|2[0-3]):[0-5]\d"
    form = rf"\d{{4}}-\d\d-\d\d[Tt ]{clock}:[0-5]\d(\.\d{{1,9}})?([Zz]|[+-]{clock})"
    if not isinstance(value, str) or not re.fullmatch(form, value, re.ASCII):
        raise Wrong
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Wrong from None


def uuid(value: Any) -> str:
    """In the usual form, with hyphens; lower and upper case are the same."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value.lower()):
        raise Wrong
    return value.lower()


def entity_tags(value: str) -> list[str]:
    """The entity tags of If-Match or If-None-Match as they stand there, weak ones with their W/; or only a star."""
    one = r'(?:W/)?"[!#-~\x80-\xff]*"'
    if value.strip(" \t") == "*":
        return ["*"]
    if not re.fullmatch(rf"[ \t,]*{one}([ \t]*,[ \t,]*{one})*[ \t,]*", value):
        raise Wrong
    return re.findall(one, value)


def or_null(read: Read, value: Any) -> Any:
    return None if value is None else read(value)


def is_right(read: Read, value: Any) -> bool:
    return not faults("", read, value)


def faults(name: str, read: Read, value: Any) -> set[str]:
    """The places in a value of this name that are wrong."""
    try:
        read(value)
    except Wrong as wrong:
        return {name + within for within in wrong.within or ("",)}
    return set()


def _trimmed(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong
    return value.strip()


READ: dict[str, Read] = {name: partial(fitting, schema) for name, schema in FIELDS.items()} | {
    "id": uuid,
    "title": title,
    "description": partial(or_null, partial(text, longest=1000)),
    "due_date": partial(or_null, timestamp),
    "tags": tags,
}
"""The reader of each field of a body; the contract says all of those that are not named here."""

DEFAULTS: Json = dict.fromkeys(NULLABLE) | {"status": "pending", "priority": "medium", "tags": ()}
"""The values of the fields that POST and PUT leave out; the title has none."""


def faults_of(body: Any, *, required: Iterable[str] = (), is_new: bool = False) -> set[str]:
    if not isinstance(body, dict):
        return {"body"}
    found = set(required) - set(body)
    for name, value in body.items():
        found |= faults(name, READ[name], value) if name in READ and (is_new or name != "id") else {name}
    # `completed` is another way to say `status`: both may be sent if they agree.
    if not found and {"status", "completed"} <= set(body) and body["completed"] != (body["status"] == "completed"):
        return {"body"}
    return found


def values_of(body: Json) -> Json:
    """The values in a body without faults, in the model's terms; a field that is left out stays left out."""
    values = {name: READ[name](value) for name, value in body.items() if name != "id"}
    if "completed" in values:
        values["status"] = "completed" if values.pop("completed") else "pending"
    return values
