"""The form of the log: one line for each record, with the id of the request it belongs to."""

import atexit
import logging
import sys
import threading
from contextlib import nullcontext
from typing import Any, TextIO, override

from config.env import Env
from server.log_format import JsonFormatter, ReadableFormatter
from server.log_stream import LogStream
from web import observation

COUNTED_SECONDS = 10.0
"""Seconds for which a line that repeats is counted."""


class WithRequest(logging.Filter):
    """Tells each line the ids of its request and of its trace."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if request := observation.current():
            record.request_id, record.trace_id = request.request_id, request.trace_id
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
                super().emit(record)


def formatter(env: Env) -> logging.Formatter:
    """The form of a server's lines in production is JSON; commands have a person as reader everywhere."""
    return JsonFormatter() if writes_json(env) else ReadableFormatter(in_colour=in_colour(env))


def writes_json(env: Env) -> bool:
    # Only a server has it.
    return env.is_production and isinstance(sys.stderr, LogStream)


def in_colour(env: Env) -> bool:
    return sys.stderr.isatty() and not env.no_color


def configuration(env: Env) -> dict[str, Any]:
    """For `logging.config.dictConfig`. Only our own loggers follow `LOG_LEVEL`: libraries have nothing to say below."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": WithRequest}},
        "formatters": {"line": {"()": formatter, "env": env}},
        "handlers": {
            "console": {"()": CountingHandler, "formatter": "line", "filters": ["request"]},
        },
        "root": {"handlers": ["console"], "level": "WARNING"},
        "loggers": {
            **{name: {"level": env.level} for name in ("config", "identity", "persistence", "server", "todos", "web")},
            # Django warns of every 405.
            "django.request": {"level": "ERROR"},
        },
    }
