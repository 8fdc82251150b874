"""The form of the log: one line for each record, with the id of the request it belongs to."""

import logging
import traceback
from types import TracebackType
from typing import Any, override

from config.env import Env
from web import request_ids


class WithRequestId(logging.Filter):
    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_ids.current.get()
        return True


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
            "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]},
        },
        "root": {"handlers": ["console"], "level": "WARNING"},
        "loggers": {
            **{name: {"level": env.level} for name in ("config", "persistence", "server", "todos", "web")},
            # Django warns of every 405.
            "django.request": {"level": "ERROR"},
        },
    }
