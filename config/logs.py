"""The form of the log: one line for each record, with the id of the request it belongs to."""

import atexit
import logging
import threading
import traceback
from contextlib import nullcontext
from types import TracebackType
from typing import Any, TextIO, override

from config.env import Env
from web import request_ids

COUNTED_SECONDS = 10.0
"""Seconds for which a line that repeats is counted."""


class WithRequestId(logging.Filter):
    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_ids.current.get()
        return True


class CountingHandler(logging.StreamHandler[TextIO]):
    """Writes the first of equal lines, and up to `COUNTED_SECONDS` later one line with the number of the others.

    Each 503 is a line, so an outage would be thousands a second. A traceback is always written: a client may ask about
    its request id. So are statements, which development wants to see.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[tuple[str, int, str], int] = {}
        atexit.register(self.write_counts, goes_on=False)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            repeats = self._repeats(record)
        except Exception:  # noqa: BLE001 - a message that cannot be formatted must not fail what logs it
            self.handleError(record)
        else:
            if not repeats:
                super().emit(record)

    def _repeats(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG or record.exc_info:
            return False
        kind = (record.name, record.levelno, record.getMessage())
        if not self._counts:
            self._start_timer()
        self._counts[kind] = self._counts.get(kind, -1) + 1
        return self._counts[kind] > 0

    def _start_timer(self) -> None:
        timer = threading.Timer(COUNTED_SECONDS, self.write_counts)
        timer.daemon = True
        timer.start()

    def write_counts(self, *, goes_on: bool = True) -> None:
        """Writes what has been counted, and forgets the lines that have not come again."""
        if self.stream.closed:
            # As in tests, which replace standard error for a while.
            return
        with self.lock or nullcontext():
            counts = {kind: count for kind, count in self._counts.items() if count}
            self._counts = dict.fromkeys(counts, 0) if goes_on else {}
            if self._counts:
                self._start_timer()
            for (name, level, text), count in counts.items():
                record = logging.LogRecord(name, level, "", 0, "%s (%d more of these)", (text, count), None)
                record.request_id = request_ids.current.get()
                super().emit(record)


class Formatter(logging.Formatter):
    """Shows tracebacks, but of a database error only its code: its text can hold the values of a row (D18)."""

    @override
    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        lines: list[str] = []
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            lines[:0] = [*traceback.format_tb(error.__traceback__), f"{type(error).__qualname__}: {_safe(error)}\n"]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "".join(lines).rstrip()


def _safe(error: BaseException) -> str:
    # By the package's name, because loading psycopg and SQLAlchemy would hold up the report of a bad environment.
    if type(error).__module__.partition(".")[0] in ("psycopg", "sqlalchemy"):
        return f"SQLSTATE {getattr(error, 'sqlstate', None) or 'unknown'}"
    return str(error)


def configuration(env: Env) -> dict[str, Any]:
    """For `logging.config.dictConfig`. Only our own loggers follow `LOG_LEVEL`: libraries have nothing to say below."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": WithRequestId}},
        "formatters": {
            "line": {"()": Formatter, "format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}
        },
        "handlers": {
            "console": {"()": CountingHandler, "formatter": "line", "filters": ["request_id"]},
        },
        "root": {"handlers": ["console"], "level": "WARNING"},
        "loggers": {
            **{name: {"level": env.level} for name in ("config", "identity", "persistence", "server", "todos", "web")},
            # Django warns of every 405.
            "django.request": {"level": "ERROR"},
        },
    }
