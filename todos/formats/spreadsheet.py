"""A table for people and their spreadsheets: CSV by RFC 4180. Programs read the JSON lines, which are exact.

A spreadsheet takes a text that begins with one of some characters for a formula and may run it. Such a text gets an
apostrophe before it, which tells spreadsheets that it is text. So does a text that begins with an apostrophe itself:
without the first apostrophe each text is as it was.
"""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from persistence.tasks import TaskRow

BYTE_ORDER_MARK = "\ufeff"
"""Without it some spreadsheets do not take the file for UTF-8."""

_LIKE_A_FORMULA = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")


def header(columns: Iterable[str]) -> bytes:
    return (BYTE_ORDER_MARK + _row(columns)).encode()


def line_of(row: TaskRow) -> bytes:
    return _row(_cell(value) for value in row.values()).encode()


def _row(cells: Iterable[str]) -> str:
    out = StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case list():
            value = ",".join(value)
    text = str(value)
    return f"'{text}" if text.startswith(_LIKE_A_FORMULA) else text
