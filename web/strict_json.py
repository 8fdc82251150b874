"""JSON as RFC 8259 has it, and no more: the additions that Python's parser tolerates surprise other readers."""

import json
from collections import Counter
from typing import Any

from web.problems import MalformedJson


def parse(body: bytes) -> Any:
    r"""The value in a body. Raises `MalformedJson`, which says what is wrong and where.

    Refuses bad UTF-8, NaN and Infinity, numbers too large for a double, a name that appears twice in one object, text
    after the value, and nesting that would exhaust the stack. A lone surrogate (`\ud800`) is left to the types.
    """
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
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise MalformedJson(f"The name {json.dumps(twice)} appears twice in one object.")
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
