"""A connection to PostgreSQL: psycopg's own, with a short way to run statements, and with what a pool must know.

A cursor of psycopg takes every query as if it had never seen it. A `Statement` is ready for the protocol: `fetch` hands
it to libpq, waits for the answer, and lets psycopg's adapters make the values. `together` does so with several. After a
failure it can tell if anything may have happened (ADR 0016).
"""

import asyncio
import logging
import select
import socket
from asyncio import Future
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, override
from weakref import ref

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import (
    Diagnostic,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InvalidSqlStatementName,
    error_from_result,
)
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from persistence.postgres.errors import ENDED_BY_SERVER, is_in_doubt
from persistence.postgres.statement import Statement, Step

logger = logging.getLogger(__name__)

PREPARE_AFTER = 5
"""Uses of a statement on one connection before it is prepared there, which takes a round trip (psycopg's default)."""
PREPARED_MAX = 100
"""Statements that one connection keeps prepared; each takes memory in the server until the connection is closed."""
COUNTED_MAX = 1000
"""Statements whose uses one connection counts. When there are more, all counts start again."""

STANDBY_WAIT = "SyncRepWaitForLSN"
"""The function of the server that waits for a synchronous standby, and warns when it stops (syncrep.c)."""

_FINE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_FINE_IN_PIPELINE = (*_FINE, ExecStatus.PIPELINE_SYNC, ExecStatus.PIPELINE_ABORTED)

type _Sendable = tuple[bytes, Sequence[Any]]
"""The text of a statement and its parameters, as they are sent."""


class Connection(psycopg.AsyncConnection[TupleRow]):
    """A connection that remembers what its pool must know about it. Times are seconds on the monotonic clock."""

    opened_at = 0.0
    expires_at = 0.0
    idle_since = 0.0
    checked_out_at = 0.0
    invalidated = False
    """Set once its end is decided: a connection may look well until the end takes effect."""
    node = ""
    """The host and the port that it leads to."""
    lacks_standby = False
    """True if the server warned that the last commit may not be on the standby that it should be on."""
    behind_pooler = False
    """A transaction pooler: each transaction may meet another server, which knows nothing that was prepared before."""
    has_citus = False
    """True if the server has loaded Citus, as it does at its own start only; rows may be on other servers then."""
    on_close: "Callable[[Connection], Awaitable[None]] | None" = None
    """Set while a session has it, whose `close` must only check it in."""
    runs_on = False
    """True while the server may be busy with what a `fetch` or `together` left behind."""

    _waiter: Future[None] | None = None
    """The last wait for the present answer."""
    _watched: int | None = None
    """The descriptor that the event loop looks at for us."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._names: dict[bytes, bytes] = {}
        """Names of prepared statements, by query."""
        self._uses: Counter[bytes] = Counter()
        # Two facts about what was run last: it was sent; the server said that all was done before the error came.
        self._was_sent = self._has_executed = False
        # By a weak reference, or each connection would wait for the garbage collector.
        self.add_notice_handler(partial(_heed, ref(self)))
        # It keeps the adapters that it has looked up, which takes longer than using them.
        self._transformer = Transformer(self)

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of one statement, in one round trip; the use after `PREPARE_AFTER` others takes a second one.

        After a failure or a cancellation `transaction_status` tells if the connection is still good, and
        `has_rolled_back` if the statement may have happened.
        """
        parameters = self._dump(statement, values)
        self._was_sent = False
        try:
            result = await self._send(statement, parameters)
        finally:
            self._settle()
        self.ensure_replicated()
        return self._load(statement, result)

    async def together(self, steps: Sequence[Step]) -> list[list[dict[str, Any]]]:
        """All rows of each statement; the statements are one transaction and take one round trip.

        Preparing a statement takes one of its own, as with `fetch`, and so do failures. A script cannot be among them.
        """
        if len(steps) == 1:
            return [await self.fetch(*steps[0])]
        sendable = [(statement.query, self._dump(statement, values)) for statement, values in steps]
        self._was_sent = False
        try:
            results = await self._send_together(sendable)
        finally:
            self._settle()
        self.ensure_replicated()
        return [self._load(statement, result) for (statement, _), result in zip(steps, results, strict=True)]

    def has_prepared(self, statement: Statement) -> bool:
        return statement.query in self._names

    def has_rolled_back(self, error: psycopg.Error) -> bool:
        """Tells if the statement that `fetch` has just failed with cannot have happened, or none of `together`.

        It cannot if it was never sent, or if the server refused it and is ready for the next one. Nor can it if the
        server ended the connection in good order before it said that the last statement was done, because it says so
        before it commits. A pooler that speaks for its server does not know that much; nor does a server that reports
        the loss of another one and whose own connection goes on, nor one that ends when rows may be on others
        (`has_citus`), which may have committed by then.
        """
        if not self._was_sent:
            return True
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            return not self.lacks_standby and not is_in_doubt(error)
        ended_well = error.sqlstate in ENDED_BY_SERVER and not self._has_executed
        return ended_well and not self.behind_pooler and not self.has_citus

    def ensure_replicated(self) -> None:
        """Raises `OperationalError` if the last commit may not be on the standby that it should be on."""
        if self.lacks_standby:
            raise psycopg.OperationalError("the change is committed, but perhaps not on a standby")

    @override
    async def commit(self) -> None:
        await super().commit()
        self.ensure_replicated()

    @override
    async def close(self) -> None:
        """Goes back to the pool when a session closes it, also when it is broken; psycopg would skip that one."""
        if self.on_close:
            on_close, self.on_close = self.on_close, None
            await on_close(self)
        else:
            self._unwatch()
            await super().close()

    def end(self) -> None:
        """Closes it at once; `close` would have to be awaited."""
        self._unwatch()
        self.pgconn.finish()

    @override
    async def wait[T](self, *arguments: Any, **options: Any) -> T:
        """All that psycopg does by itself, such as a session's statements, which has the event loop look on its own."""
        self._unwatch()
        return await super().wait(*arguments, **options)

    @property
    def is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))

    async def ping(self, timeout: float) -> bool:
        """Makes a round trip and tells if it came back within so many seconds; if not, the connection is of no use."""
        timer = asyncio.get_running_loop().call_later(timeout, self.abort)
        try:
            await self.execute("SELECT 1")
        except psycopg.Error as error:
            logger.info("Discarding a connection that died while idle: %s", type(error).__name__)
            return False
        finally:
            timer.cancel()
        # It may have answered in the very moment of the timeout.
        return not self.invalidated

    def abort(self) -> None:
        """Ends the statement that runs on it, at once: a caller that awaits an answer gets an `OperationalError`.

        A cancel request would need the server's help; shutting the socket down does not, and is all that helps
        against a stalled server or network.
        """
        self.invalidated = True
        if self.pgconn.status == ConnStatus.OK:
            # It wakes the caller that waits. Closing the socket is left to libpq.
            with suppress(OSError):
                shared = socket.socket(fileno=self.pgconn.socket)
                try:
                    shared.shutdown(socket.SHUT_RDWR)
                finally:
                    shared.detach()

    def end_wait(self) -> None:
        """Ends the wait for an answer with an `OperationalError`; a connection that is not a session's stays open."""
        if self.runs_on:
            return
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(psycopg.OperationalError("the answer did not come in time"))
        else:
            self.abort()

    async def drop_answer(self) -> None:
        """Reads on until the server has ended what was left behind.

        Raises `OperationalError` when the connection is lost.
        """
        try:
            while self.pgconn.flush():
                await self._wait(for_room=True)
            while self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                while self.pgconn.is_busy():
                    await self._wait()
                self.pgconn.get_result()
        finally:
            self._settle()

    def _settle(self) -> None:
        """Looks at what has become of the connection, before anything else can run."""
        status, self._waiter = self.pgconn.transaction_status, None
        self.runs_on = status == TransactionStatus.ACTIVE
        if status != TransactionStatus.IDLE:
            # libpq may have closed it. And a pool sees that an idle one has died; nobody does within a transaction.
            self._unwatch()

    def _dump(self, statement: Statement, values: Mapping[str, Any]) -> Sequence[Any]:
        parameters = [values[name] for name in statement.parameters]
        return self._transformer.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))

    def _load(self, statement: Statement, result: PGresult) -> list[dict[str, Any]]:
        transformer, columns = self._transformer, statement.columns
        transformer.set_pgresult(result)
        rows = transformer.load_rows(0, result.ntuples, lambda row: dict(zip(columns, row)))  # noqa: B905 - as many
        # An idle connection need not keep the answer.
        transformer.set_pgresult(None)
        return rows

    async def _send(self, statement: Statement, parameters: Sequence[Any]) -> PGresult:
        """Sends a statement, prepared if it is or is due to be, and awaits its result."""
        query, name = statement.query, None
        if statement.is_script:
            self.pgconn.send_query(query)
        elif name := self._names.get(query) or await self._prepare_when_due(query):
            self.pgconn.send_query_prepared(name, parameters)
        else:
            self.pgconn.send_query_params(query, parameters)
        self._was_sent = True
        try:
            return await self._result()
        except (FeatureNotSupported, InvalidSqlStatementName):
            if not name:
                raise
            # A migration has changed a type of the result, or a pooler has taken us to another server. It has not run.
            self.invalidated = True
            self.pgconn.send_query_params(query, parameters)
            return await self._result()

    async def _send_together(self, steps: Sequence[_Sendable]) -> list[PGresult]:
        """Sends statements with one Sync behind them, at which the server commits what it has done since the last.

        An outdated one undoes them all, so that they are run again from above.
        """
        for query, _ in steps:
            if query not in self._names:
                await self._prepare_when_due(query)
        self.pgconn.enter_pipeline_mode()
        unnamed = None
        for query, parameters in steps:
            if name := self._names.get(query):
                self.pgconn.send_query_prepared(name, parameters)
            elif query == unnamed:
                # The server has kept the last statement without a name, and need not parse its text again.
                self.pgconn.send_query_prepared(b"", parameters)
            else:
                self.pgconn.send_query_params(query, parameters)
                unnamed = query
        self._was_sent = True
        self.pgconn.pipeline_sync()
        try:
            return await self._results(len(steps))
        finally:
            if self.pgconn.transaction_status == TransactionStatus.IDLE:
                self.pgconn.exit_pipeline_mode()

    async def _results(self, expected: int) -> list[PGresult]:
        """The results of a pipeline of so many statements, read up to its Sync. Raises the first error."""
        results: list[PGresult] = []
        failure: psycopg.Error | None = None
        while True:
            try:
                result = await self._result()
            except psycopg.Error as error:
                failure = failure or error
                if error.sqlstate is None:
                    # It is not the server's, from which nothing more will come.
                    break
            else:
                if result.status == ExecStatus.PIPELINE_SYNC:
                    break
                results.append(result)
        if failure:
            # After all of them only the commit can fail.
            self._has_executed = len(results) == expected
            raise failure
        return results

    async def _prepare_when_due(self, query: bytes) -> bytes | None:
        if self.behind_pooler or len(self._names) >= PREPARED_MAX:
            return None
        if self._uses[query] < PREPARE_AFTER:
            if len(self._uses) >= COUNTED_MAX:
                self._uses.clear()
            self._uses[query] += 1
            return None
        # Behind a pooler that the settings do not mention, another client's statement of this name is the same.
        name = b"statement_" + blake2b(query, digest_size=12).hexdigest().encode()
        self.pgconn.send_prepare(name, query)
        with suppress(DuplicatePreparedStatement):
            await self._result()
        if self.invalidated:
            raise psycopg.OperationalError("the connection ended when the server had prepared a statement")
        self._names[query] = name
        return name

    async def _result(self) -> PGresult:
        """The result of what was just sent, or the next of a pipeline. Raises the errors of psycopg's cursors."""
        while self.pgconn.flush():
            await self._wait(for_room=True)
        last = before = None
        try:
            while True:
                while self.pgconn.is_busy():
                    await self._wait()
                if (result := self.pgconn.get_result()) is None:
                    # This ends the answer and makes the connection idle again.
                    break
                before, last = last, result
        except psycopg.OperationalError:
            if last is None or last.status in _FINE:
                raise
            # A server that ends the connection says why and makes nothing idle again.
        assert last
        if last.status not in _FINE_IN_PIPELINE:
            self._has_executed = before is not None
            raise error_from_result(last, encoding=self.info.encoding)
        return last

    async def _wait(self, *, for_room: bool = False) -> None:
        """Waits until the server has said something, or, if asked for, takes more.

        The event loop looks on after the answer: to stop it and to ask it again took 7 us of the 190 of a request. But
        uvloop looks no more once the network has failed, even if half an answer came before.
        """
        loop, descriptor = asyncio.get_running_loop(), self.pgconn.socket
        if self._waiter:
            self._unwatch()
        waiter: Future[None] = loop.create_future()
        self._waiter = waiter
        if self._watched is None:
            loop.add_reader(descriptor, _wake, ref(self), descriptor)
            self._watched = descriptor
        if for_room:
            loop.add_writer(descriptor, _wake, ref(self), descriptor)
        try:
            await waiter
        finally:
            if for_room:
                loop.remove_writer(descriptor)
        self.pgconn.consume_input()

    def hear(self) -> None:
        """Called while there is something to read, or room; it must not be called any more when nobody reads."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
        else:
            self._unwatch()

    def _unwatch(self) -> None:
        """Has to run before the descriptor is closed, or at once when libpq has closed it.

        Its number will be that of another connection, and an event loop that believes to know it mixes them up.
        """
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None


def _heed(reference: "ref[Connection]", notice: Diagnostic) -> None:
    """Takes in what the server says beside its answers.

    When its goodbye comes together with the end of an answer, libpq takes it for a mere notice, and the connection
    looks well until the server has closed it, some milliseconds later.

    When its wait for a synchronous standby is cancelled, the server warns and then reports success. Only the name of
    its function marks the warning: the SQLSTATE is that of any warning, and the text may be translated.
    """
    if not (connection := reference()):
        return
    if notice.source_function == STANDBY_WAIT:
        connection.lacks_standby = connection.invalidated = True
    elif notice.severity_nonlocalized == "FATAL":
        connection.invalidated = True


def _wake(reference: "ref[Connection]", descriptor: int) -> None:
    if connection := reference():
        connection.hear()
    else:
        asyncio.get_running_loop().remove_reader(descriptor)
