"""Entity tags (RFC 9110, section 8.8.3): a task's is its version in quotes, and always strong."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from persistence.tasks import Versions

type Precondition = frozenset[int] | Literal["*"]
"""The versions that a header names, or any."""

_ELEMENT = re.compile(r'[ \t]*(?:(?P<weak>W/)?"(?P<opaque>[!\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|$)')
# A number that was written in another way than ours is another tag, and one that no version can have matches nothing.
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_TAGS_MAX = 100
"""Entity tags in one header: a client knows one, and looking at 8,000 takes milliseconds."""
_TAG_PATTERN = r'(W/)?"[!#-~\u0080-\u00ff]*"'


def etag(version: int) -> str:
    return f'"{version}"'


def expected(if_match: Precondition | None) -> Versions:
    """The versions that a write may meet; None for any."""
    return None if if_match is None or if_match == "*" else if_match


def is_altered(version: int, if_match: str) -> bool:
    """Tells if this version is named, but as a proxy does that compresses: W/"1", "1-gzip", "1;br", "1--gzip"."""
    return bool(re.search(rf'W/"{version}\b|"{version}[-;]+[a-z]+"', if_match))


def is_fresh(version: int, if_none_match: Precondition | None) -> bool:
    """Tells if the client has this version already."""
    return if_none_match is not None and (if_none_match == "*" or version in if_none_match)


def _strong(field: str) -> Precondition:
    """If-Match compares strongly: a weak tag never matches (section 13.1.1)."""
    return _parse(field, weak_ones=False)


def _weak(field: str) -> Precondition:
    """If-None-Match compares weakly: it makes no difference whether a tag is weak (section 13.1.2)."""
    return _parse(field, weak_ones=True)


def _parse(field: str, *, weak_ones: bool) -> Precondition:
    if field.strip(" \t") == "*":
        return "*"
    versions, position, count, found = set[int](), 0, 0, False
    while position < len(field):
        count += 1
        element = _ELEMENT.match(field, position)
        if not element or count > _TAGS_MAX:
            found = False
            break
        position = element.end()
        if (opaque := element["opaque"]) is not None:
            found = True
            if (weak_ones or not element["weak"]) and _VERSION.fullmatch(opaque):
                versions.add(int(opaque))
    if not found:
        raise PydanticCustomError(
            "entity_tags",
            'Send entity tags in double quotes as they came, such as "1", at most {most} of them, or *',
            {"most": _TAGS_MAX},
        )
    return frozenset(versions)


_SCHEMA = WithJsonSchema({"type": "string", "pattern": rf"^(\*|{_TAG_PATTERN}([ \t]*,[ \t]*{_TAG_PATTERN})*)$"})

IfMatch = Annotated[Precondition, BeforeValidator(_strong), _SCHEMA]
IfNoneMatch = Annotated[Precondition, BeforeValidator(_weak), _SCHEMA]
