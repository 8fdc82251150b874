"""The forms of a line in the log: an object of JSON in production, text that a person reads in development.

The master loads this module, so that its own lines have the same form. What the master has loaded no reload renews, so
this module imports nothing of ours.
"""

import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, override

import orjson

_SAFE_TEXTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
)
"""Errors whose texts name parts of the program or files. The texts of others quote the value that was wrong: KeyError,
ValueError, and what libraries make of them."""
_PACKAGES = ("config", "identity", "persistence", "server", "todos", "web")
_COLOURS = {"DEBUG": 2, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}
_OURS = '{"time":'
"""The beginning of each object of this log. A dict or an object of JSON that somebody prints begins otherwise."""


def json_line(fields: dict[str, Any]) -> str:
    """One object in one line, without its end. It begins with its time, or else with that of now."""
    fields = {"time": datetime.now(UTC)} | fields
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_UTC_Z).decode()
    except TypeError:
        # A lone surrogate, as in the name of a file that is not UTF-8.
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        safe = {name: value.encode(errors="backslashreplace").decode() for name, value in texts.items()}
        return orjson.dumps(fields | safe, default=str, option=orjson.OPT_UTC_Z).decode()


def each_as_json(text: str) -> str:
    """Makes objects of the lines that are none: what is printed, by Python or by a library."""
    # Lines of requests come so, many at a time.
    if text.startswith(_OURS) and text.count(f"\n{_OURS}") == text.count("\n") - text.endswith("\n"):
        return text
    lines = text.split("\n")
    made = (
        line if line.startswith(_OURS) else json_line({"level": "WARNING", "logger": "stderr", "message": line})
        for line in lines
        if line
    )
    return "".join(f"{line}\n" for line in made)


class SafeFormatter(logging.Formatter):
    """Shows tracebacks without values: of a database error the code, of most others the type (D18, D47)."""

    @override
    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        lines: list[str] = []
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            lines[:0] = [*traceback.format_tb(error.__traceback__), f"{type(error).__qualname__}{_safe_text(error)}\n"]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "".join(lines).rstrip()


class JsonFormatter(SafeFormatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("request_id", "trace_id"):
            if value := getattr(record, name, None):
                line[name] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json_line(line)


class ReadableFormatter(SafeFormatter):
    """Text for a person, in colours by level if asked for."""

    def __init__(self, *, in_colour: bool) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s", defaults={"request_id": "-"}
        )
        self._in_colour = in_colour

    @override
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        colour = _COLOURS.get(record.levelname)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._in_colour and colour else text


def _safe_text(error: BaseException) -> str:
    package = type(error).__module__.partition(".")[0]
    # By the packages' names, because loading psycopg and SQLAlchemy would hold up the report of a bad environment.
    if package in ("psycopg", "sqlalchemy"):
        return f": SQLSTATE {getattr(error, 'sqlstate', None) or 'unknown'}"
    if package in _PACKAGES or (package in ("builtins", "asyncio") and isinstance(error, _SAFE_TEXTS)):
        return f": {error}"
    return " (its text may hold values, so it is not shown)"
