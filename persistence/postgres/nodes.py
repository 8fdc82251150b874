"""The nodes that a URL names: which of them answer, and a connection to one that does.

If there are several, each has one connection besides those of the pools, and a round trip on it every few seconds.
Health tells how many nodes answer. The pools open connections to nodes that answer, and drop those to a node that does
not: they would find out by themselves, but at the cost of a caller for each connection.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import psycopg

from persistence.postgres.connection import Connection
from persistence.postgres.dsn import Dsn
from persistence.postgres.opening import open_connection
from persistence.postgres.options import DatabaseOptions

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two round trips to a node, or two attempts to reach it."""
ANSWER_TIMEOUT = 1.0
"""Seconds for the answer of a node."""
CONNECT_TIMEOUT = 2
"""Seconds for a connection to a node; the least that libpq takes."""


class NodeStats(NamedTuple):
    """Numbers of nodes."""

    known: int
    answering: int


class _Node:
    def __init__(self, dsn: Dsn) -> None:
        # A standby that the pools pass over is alive.
        self.dsn = Dsn({**dsn.parameters, "target_session_attrs": "any"}, dsn.behind_pooler)
        self.name = f"{dsn.host}:{dsn.parameters.get('port') or '5432'}"
        self.answers = True
        self.connection: Connection | None = None


class Nodes:
    """`on_silence` is told each node that ceases to answer."""

    def __init__(self, dsn: Dsn, options: DatabaseOptions, on_silence: Callable[[str], None]) -> None:
        self._dsn = dsn
        self._options = options
        self._on_silence = on_silence
        self._nodes = [_Node(dsn.at(number)) for number in range(dsn.host_count)]

    @property
    def stats(self) -> NodeStats:
        return NodeStats(len(self._nodes), sum(node.answers for node in self._nodes))

    async def connect(self, timeout: int) -> Connection:
        """A connection to a node that answers, or else to any; each address has the whole timeout.

        Raises psycopg's error of the last address.
        """
        answering, silent = (
            [number for number, node in enumerate(self._nodes) if node.answers is answers] for answers in (True, False)
        )
        if answering:
            try:
                return await open_connection(self._dsn.at(*answering), self._options, timeout)
            except psycopg.Error:
                if not silent:
                    raise
        return await open_connection(self._dsn.at(*silent), self._options, timeout)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Asks each node every few seconds until the end of the block. One node alone is not asked."""
        tasks = [asyncio.create_task(self._watch(node)) for node in self._nodes] if len(self._nodes) > 1 else []
        try:
            yield
        finally:
            for node in self._nodes:
                if node.connection:
                    # psycopg would wait for an answer before it obeys.
                    node.connection.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for node in self._nodes:
                if node.connection:
                    node.connection.end()

    def note_silence(self, name: str) -> None:
        """Takes it that a node does not answer, until it does."""
        for node in self._nodes:
            if node.name == name:
                self._note(node, answers=False)

    async def ask(self, timeout: float) -> bool:
        """Asks all nodes now, for so many seconds, and tells if one of several does not answer."""
        await asyncio.gather(*(self._ask(node, timeout) for node in self._nodes))
        return not all(node.answers for node in self._nodes)

    async def _ask(self, node: _Node, timeout: float) -> None:
        connection = node.connection
        if connection is None:
            return
        answers = await connection.ping(timeout)
        if not answers:
            connection.end()
            node.connection = None
        self._note(node, answers=answers)

    async def _watch(self, node: _Node) -> None:
        while True:
            if node.connection is None:
                try:
                    node.connection = await open_connection(node.dsn, self._options, CONNECT_TIMEOUT)
                except (psycopg.Error, OSError):
                    self._note(node, answers=False)
            await self._ask(node, ANSWER_TIMEOUT)
            await asyncio.sleep(INTERVAL)

    def _note(self, node: _Node, *, answers: bool) -> None:
        # What is tried anyway needs no mark, and nothing would remove that of a node alone.
        if answers != node.answers and len(self._nodes) > 1:
            node.answers = answers
            logger.warning("The database node %s %s.", node.name, "answers again" if answers else "does not answer")
        if not answers:
            self._on_silence(node.name)
