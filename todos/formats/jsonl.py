"""Our own form: a JSON object for each task in a line of its own, with the fields of the API, and `deleted_at`."""

from collections.abc import Iterator
from uuid import UUID

import orjson

from persistence.tasks import TaskRow
from todos.formats.drafts import LINE_MAX, LINE_TOO_LONG, Draft, Repeats, lines_of, refused
from todos.formats.encoding import is_text

MEMBERS_MAX = 50
"""Members of one object, as in `web/strict_json.py`: each that is unknown becomes a fault."""
_NOT_KEPT = ("user_id", "version")
"""The owner is the one into whose tasks they are imported, and a version tells of a change here."""


# Some readers end a line at these, too.
_LINE_ENDS = [(end.encode(), f"\\u{ord(end):04x}".encode()) for end in "\x85\u2028\u2029"]


def line_of(row: TaskRow) -> bytes:
    line = orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    for end, escaped in _LINE_ENDS:
        line = line.replace(end, escaped)
    return line


def parsed(text: str) -> Iterator[Draft]:
    repeats = Repeats()
    for number, line in lines_of(text):
        if len(line) > LINE_MAX:
            yield refused(number, LINE_TOO_LONG)
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            reason = f"It is not JSON: {error.msg}" if is_text(line) else "It is not UTF-8"
            yield refused(number, reason)
            continue
        if not isinstance(values, dict):
            yield refused(number, "A JSON object is expected")
            continue
        if len(values) > MEMBERS_MAX:
            yield refused(number, f"It has more than {MEMBERS_MAX} members")
            continue
        for name in _NOT_KEPT:
            values.pop(name, None)
        yield Draft(number, _id(values) if values.get("id") is not None else repeats.key(line), values)


def _id(values: dict[str, object]) -> UUID | str:
    """The id of the task; the values keep it, so that one of another form is refused."""
    try:
        return UUID(str(values["id"]))
    except ValueError:
        return ""
