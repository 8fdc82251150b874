"""Logs each statement with the time it took and without its parameters, whichever entry point it came through (D18)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, override

import psycopg

from persistence.postgres.connection import Connection
from persistence.postgres.statement import Statement, Step

logger = logging.getLogger("persistence.sql")


class LoggingConnection(Connection):
    """Logs what it runs; its cursors do so, too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = _LoggingCursor

    @override
    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        with _logged(statement.text) as log:
            rows = await super().fetch(statement, values)
            log.outcome = f"{len(rows)} rows"
        return rows

    @override
    async def together(self, steps: Sequence[Step]) -> list[list[dict[str, Any]]]:
        # Those of a batch may be a hundred times the same.
        if len(steps) == 1:
            return await super().together(steps)
        texts = dict.fromkeys(statement.text for statement, _ in steps)
        with _logged("; ".join(texts)) as log:
            found = await super().together(steps)
            log.outcome = f"{sum(map(len, found))} rows"
        return found


class _LoggingCursor(psycopg.AsyncCursor[Any]):
    @override
    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        with _logged(str(query)) as log:
            await super().execute(query, params, **options)
            log.outcome = f"{self.rowcount} rows"
        return self


class _Log:
    outcome = "cancelled"


@contextmanager
def _logged(query: str) -> Iterator[_Log]:
    log, started = _Log(), monotonic()
    try:
        yield log
    except psycopg.Error as error:
        log.outcome = f"failed: {type(error).__name__}"
        raise
    finally:
        logger.debug("%.1f ms, %s: %s", (monotonic() - started) * 1000, log.outcome, " ".join(query.split()))
