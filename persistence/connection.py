"""A connection to PostgreSQL: psycopg's own, with a short way to run one statement.

A cursor of psycopg takes every query as if it had never seen it, which costs more than everything else that a short
statement costs here (docs/decisions/0016-statements-without-cursors.md). A `Statement` is ready for the protocol:
`fetch` hands it to libpq, waits for the answer, and lets psycopg's adapters make the values.
"""

import asyncio
import socket
from asyncio import Future
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol, override
from weakref import ref

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import (
    AdminShutdown,
    Diagnostic,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InvalidSqlStatementName,
    error_from_result,
)
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from persistence.errors import ENDED_BY_SERVER
from persistence.statement import Statement

PREPARE_AFTER = 5
"""Uses of a statement on one connection before it is prepared there, which takes a round trip (psycopg's default)."""
PREPARED_MAX = 100
"""Statements that one connection keeps prepared; each takes memory in the server until the connection retires."""
COUNTED_MAX = 1000
"""Statements whose uses one connection counts; then it counts anew."""

_FINE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


class Lender(Protocol):
    """A pool, which stands above this module."""

    async def take_back(self, connection: "Connection") -> None: ...


class Connection(psycopg.AsyncConnection[TupleRow]):
    """A connection that remembers what the pool must know about it."""

    retire_at = 0.0
    lender: Lender | None = None
    """Who takes it back when a session closes it."""
    cut_off: asyncio.TimerHandle | None = None
    """Ends the session that has it."""
    idle_since = 0.0
    lent_at = 0.0
    doomed = False
    """Set once its end has been ordered, because a connection may look whole until the order has its effect."""
    opened_at = 0.0
    behind_pooler = False
    """A transaction pooler: each transaction may meet another server, which knows nothing that was prepared before."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._names: dict[bytes, bytes] = {}
        """Of prepared statements, by query."""
        self._uses: Counter[bytes] = Counter()
        self._was_sent = self._has_executed = False
        """Of the last statement: whether it was sent, and whether the server has said that it was done, if not yet
        committed; the latter only if it failed."""
        # By a weak reference, or each connection would wait for the garbage collector.
        self.add_notice_handler(partial(_hear, ref(self)))
        # It keeps the adapters that it has looked up, which takes longer than using them.
        self._transformer = Transformer(self)

    async def fetch(self, statement: Statement[Any], values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of one statement, in one round trip.

        Its use on this connection that comes after `PREPARE_AFTER` others takes a second one, to prepare it. For
        whoever has the connection alone; when this is cancelled or fails, only `transaction_status` tells whether the
        connection is still good, and `has_rolled_back` whether the statement may have happened.
        """
        transformer, query = self._transformer, statement.query
        parameters = [values[name] for name in statement.parameters]
        sent = transformer.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
        self._was_sent = False
        if name := self._names.get(query) or await self._prepare_when_due(query):
            self.pgconn.send_query_prepared(name, sent)
        else:
            self.pgconn.send_query_params(query, sent)
        self._was_sent = True
        try:
            result = await self._result()
        except (FeatureNotSupported, InvalidSqlStatementName):
            if not name:
                raise
            # A migration has changed a type of the result, or a pooler has taken us to another server. It has not run.
            self.doomed = True
            self.pgconn.send_query_params(query, sent)
            result = await self._result()
        transformer.set_pgresult(result)
        columns = [(result.fname(index) or b"").decode() for index in range(result.nfields)]
        rows = transformer.load_rows(0, result.ntuples, lambda row: dict(zip(columns, row)))  # noqa: B905 - as many
        # The connection may rest now, without the answer.
        transformer.set_pgresult(None)
        return rows

    def has_rolled_back(self, error: psycopg.Error) -> bool:
        """Whether the statement that `fetch` has just failed with cannot have happened.

        It cannot if it was never sent, or if the server is ready for the next one. Nor if the server ended the
        connection in good order before it was done with the statement, since it sends that it is done before it
        commits, and both in this order. What a pooler says about its server is no such word.
        """
        return (
            not self._was_sent
            or self.pgconn.transaction_status == TransactionStatus.IDLE
            or (error.sqlstate in ENDED_BY_SERVER and not self._has_executed and not self.behind_pooler)
        )

    @override
    async def close(self) -> None:
        """Goes back to the pool, also when it is broken: psycopg would leave such a one counted as lent for ever."""
        if self.cut_off:
            self.cut_off.cancel()
        if self.lender:
            lender, self.lender = self.lender, None
            await lender.take_back(self)
        else:
            await super().close()

    def sever(self) -> None:
        """Ends whatever runs on it, at once: whoever awaits an answer gets an `OperationalError`.

        A cancel request would need the server's help; shutting the socket down does not, and is all that helps
        against a stalled server or network.
        """
        self.doomed = True
        if self.pgconn.status == ConnStatus.OK:
            # It wakes who waits. Closing the socket is left to libpq.
            with suppress(OSError):
                shared = socket.socket(fileno=self.pgconn.socket)
                try:
                    shared.shutdown(socket.SHUT_RDWR)
                finally:
                    shared.detach()

    async def _prepare_when_due(self, query: bytes) -> bytes | None:
        if self.behind_pooler or len(self._names) >= PREPARED_MAX:
            return None
        if self._uses[query] < PREPARE_AFTER:
            if len(self._uses) >= COUNTED_MAX:
                self._uses.clear()
            self._uses[query] += 1
            return None
        # Where a pooler is between that nobody has told us of, another client's statement of this name is the same.
        name = b"statement_" + blake2b(query, digest_size=12).hexdigest().encode()
        self.pgconn.send_prepare(name, query)
        with suppress(DuplicatePreparedStatement):
            await self._result()
        if self.doomed:
            raise AdminShutdown("The server ended the connection when it had prepared a statement.")
        self._names[query] = name
        return name

    async def _result(self) -> PGresult:
        """The result of what was just sent. Raises what a cursor of psycopg would."""
        while self.pgconn.flush():
            await self._wait(for_room=True)
        last = before = None
        try:
            # None ends the answer and makes the connection idle again.
            while (result := await self._next_result()) is not None:
                before, last = last, result
        except psycopg.OperationalError:
            if last is None or last.status in _FINE:
                raise
            # A server that ends the connection says why and makes nothing idle again.
        assert last
        if last.status not in _FINE:
            self._has_executed = before is not None
            raise error_from_result(last, encoding=self.info.encoding)
        return last

    async def _next_result(self) -> PGresult | None:
        while self.pgconn.is_busy():
            await self._wait()
        return self.pgconn.get_result()

    async def _wait(self, *, for_room: bool = False) -> None:
        """Until the server has said something, or, if asked for, takes more."""
        loop, descriptor = asyncio.get_running_loop(), self.pgconn.socket
        waiter: Future[None] = loop.create_future()
        loop.add_reader(descriptor, _wake, waiter)
        if for_room:
            loop.add_writer(descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            loop.remove_reader(descriptor)
            if for_room:
                loop.remove_writer(descriptor)
        self.pgconn.consume_input()


def _hear(connection: "ref[Connection]", notice: Diagnostic) -> None:
    """Dooms a connection whose server has said goodbye.

    When that comes together with the end of an answer, libpq takes it for a mere notice, and the connection looks well
    until the server has closed it, some milliseconds later.
    """
    if notice.severity_nonlocalized == "FATAL" and (ended := connection()):
        ended.doomed = True


def _wake(waiter: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
