"""iCalendar (RFC 5545): each task is a VTODO."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from persistence.tasks import TaskRow

HEADER = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//todo-backend//tasks//EN\r\n"
FOOTER = b"END:VCALENDAR\r\n"

OCTETS_MAX = 75
"""Octets of one line, without its end; the space that continues a line counts."""

_PRIORITIES = {"high": 1, "medium": 5, "low": 9}
_STATUSES = {"pending": "NEEDS-ACTION", "completed": "COMPLETED"}
_BREAKS = re.compile(r"\r\n|\r|\n")
# Control characters have no place in a text (section 3.1).
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ESCAPES = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"})


def component_of(row: TaskRow) -> bytes:
    return b"".join(map(_folded, _lines(row)))


def _lines(row: TaskRow) -> Iterator[str]:
    yield "BEGIN:VTODO"
    yield f"UID:{row['id']}"
    yield f"DTSTAMP:{_utc(row['updated_at'])}"
    yield f"CREATED:{_utc(row['created_at'])}"
    yield f"LAST-MODIFIED:{_utc(row['updated_at'])}"
    yield f"SUMMARY:{_text(row['title'])}"
    if row["description"]:
        yield f"DESCRIPTION:{_text(row['description'])}"
    yield f"STATUS:{_STATUSES[row['status']]}"
    if row["completed_at"]:
        yield f"COMPLETED:{_utc(row['completed_at'])}"
    yield f"PRIORITY:{_PRIORITIES[row['priority']]}"
    if row["due_date"]:
        yield f"DUE:{_utc(row['due_date'])}"
    if row["tags"]:
        yield f"CATEGORIES:{','.join(map(_text, row['tags']))}"
    yield "END:VTODO"


def _utc(moment: datetime) -> str:
    """To the second, as there are no parts of it."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None):%Y%m%dT%H%M%SZ}".rjust(16, "0")


def _text(text: str) -> str:
    return _CONTROLS.sub("\ufffd", _BREAKS.sub("\n", text)).translate(_ESCAPES)


def _folded(line: str) -> bytes:
    """The line with its end, in pieces that leave every character whole."""
    octets, pieces, most = line.encode(), list[bytes](), OCTETS_MAX
    while len(octets) > most:
        end = most
        while octets[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(octets[:end])
        octets, most = octets[end:], OCTETS_MAX - 1
    return b"\r\n ".join((*pieces, octets)) + b"\r\n"
