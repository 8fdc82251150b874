"""JSON as RFC 8259 has it, and no more: the additions that Python's parser tolerates surprise other readers."""

import json
from collections import Counter
from typing import Any

from todos.errors import InvalidInput
from web.problems import MalformedJson

MARKS_MAX = 5_000
"""Commas and opening brackets of one body, those in texts included: a body has at most one value more than these.

A valid body has less than a third of that, even if its texts consist of commas. Counting them takes less time than
parsing does, which goes on to the end of the body and would hold up every other request.
"""
MEMBERS_MAX = 50
"""Members of one object. Each that is unknown becomes a fault, and no more faults than that are shown."""

_NO_MARKS = bytes(byte for byte in range(256) if byte not in b",[{")
_NAME_SHOWN = 100


def parse(body: bytes, marks_max: int = MARKS_MAX) -> Any:
    r"""The value in a body. Raises `MalformedJson`, which says what is wrong and where.

    Refuses bad UTF-8, NaN and Infinity, numbers too large for a double, a name that appears twice in one object, and
    text after the value. A lone surrogate (`\ud800`) is left to the types. Raises `InvalidInput` for more values than
    any valid body has.
    """
    if len(body.translate(None, _NO_MARKS)) > marks_max:
        raise _too_many(f"It has more than {marks_max:,} commas and opening brackets")
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not UTF-8: byte {error.start} cannot be decoded.") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}.") from None


def _too_many(detail: str) -> InvalidInput:
    return InvalidInput.of({"field": "body", "detail": detail})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise MalformedJson(f"The name {json.dumps(twice[:_NAME_SHOWN])} appears twice in one object.")
    if len(result) > MEMBERS_MAX:
        raise _too_many(f"An object in it has more than {MEMBERS_MAX} members")
    return result


def _no_constant(name: str) -> None:
    raise MalformedJson(f"{name} is not a JSON value.")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise MalformedJson("A number is too large.")
    return number


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise MalformedJson("A number is too large.")
    return int(digits)
