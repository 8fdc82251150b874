"""Raw requests on many connections at once, and checks of every answer."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import count

import psycopg
import uvloop

from persistence.postgres.dsn import Dsn
from tests.fuzz.answers import NONE, Answer, Malformed, Report
from tests.fuzz.connection import Connection
from tests.fuzz.fixtures import Fixtures, leaks
from tests.fuzz.grammar import Grammar
from tests.fuzz.groups import Group, group
from tests.support.databases import as_owner

SLOTS = 12
"""Connections that requests are sent on at the same time."""
DEADLINE = 60.0
"""Seconds for an answer that must come, as the machine may be busy."""
QUIET = 0.1
"""Seconds without a byte after which the server seems to wait for the end of a bent request."""
HANG_UP_AFTER = 1.0
"""Seconds beyond `QUIET` before the client hangs up."""
_MOST_FAILURES = 20
_SHOWN = 6000
_PROBE = b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\nX-Request-ID: probe-%d\r\n\r\n"


def storm(port: int, dsn: Dsn, seed: int, cases: int, only: int | None = None) -> Report:
    """Sends so many requests, or one group only, to the server at this port of 127.0.0.1, and reads the answers.

    The server's database, `dsn`, gets users for it.
    """
    users, report = Fixtures.of(seed), Report()

    def numbers() -> Iterator[int]:
        each = count()
        while report.answers.total() < cases and len(report.failures) < _MOST_FAILURES:
            yield next(each)

    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        users.insert(connection)
        before = users.belongings(connection)
        connection.commit()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Storm(port, users, seed, report).run(numbers() if only is None else [only]))
        if users.belongings(connection) != before:
            report.failures.append("GROUP=all make fuzz\nTasks of bystanders have changed")
    return report


class _Storm:
    def __init__(self, port: int, users: Fixtures, seed: int, report: Report) -> None:
        self._port, self._seed, self._report = port, seed, report
        self._grammar = Grammar(users)
        self._lingering: dict[Connection, asyncio.Task[None]] = {}

    async def run(self, numbers: Iterable[int]) -> None:
        each = iter(numbers)
        async with asyncio.TaskGroup() as slots:
            for _ in range(SLOTS):
                slots.create_task(self._slot(each))
        await asyncio.gather(*self._lingering.values())

    async def _slot(self, numbers: Iterator[int]) -> None:
        connection: Connection | None = None
        for number in numbers:
            sent = group(self._grammar, self._seed, number)
            try:
                if connection is None or connection.is_over:
                    connection = await Connection.open(self._port)
                is_usable = await (self._converse if sent.is_sane else self._provoke)(connection, sent)
            except Malformed as error:
                self._blame(sent, f"this is not an answer: {error}")
                is_usable = False
            except OSError as error:
                self._blame(sent, f"nothing could be sent: {error}")
                break
            if not is_usable:
                assert connection
                if connection not in self._lingering:
                    connection.close()
                connection = None
        if connection:
            connection.close()

    async def _converse(self, connection: Connection, sent: Group) -> bool:
        """Expects one answer to every request, in order. Returns False if the connection cannot be used again."""
        await connection.send(sent.pieces)
        for case in sent.cases:
            try:
                answer = await connection.answer(DEADLINE, without_body=case.is_head)
            except TimeoutError:
                self._blame(sent, f"no answer within {DEADLINE:g} s to {case.data!r}")
                return False
            self._report.answers[case.label, answer.status if answer else NONE] += 1
            if answer is None:
                if case.must_be_answered:
                    self._blame(sent, f"the connection was closed without an answer to {case.data!r}")
                return False
            self._check(sent, answer, case.data)
            if answer.closes:
                return False
        if connection.has_part:
            self._blame(sent, "there are more answers than requests")
            return False
        return True

    async def _provoke(self, connection: Connection, sent: Group) -> bool:
        """Sends a probe last, as the number of requests that the server sees before it is not known."""
        probe = _PROBE % sent.number
        await connection.send([*sent.pieces[:-1], sent.pieces[-1] + probe])
        statuses: list[int] = []
        is_closing = False
        try:
            while answer := await connection.answer(QUIET):
                if answer.headers.get(b"x-request-id") == b"probe-%d" % sent.number and b"alive" in answer.body:
                    return not answer.closes
                self._check(sent, answer)
                statuses.append(answer.status)
                is_closing = answer.closes
        except TimeoutError:
            # The other requests go on meanwhile.
            self._lingering[connection] = asyncio.create_task(self._wait_for_end(connection, sent))
        else:
            self._check_end(connection, sent)
        finally:
            # The server does not read on behind a request that it cannot answer, or that makes it close.
            for case, status in zip(sent.cases, statuses if is_closing else [*statuses, NONE], strict=False):
                self._report.answers[case.label, status] += 1
        return False

    async def _wait_for_end(self, connection: Connection, sent: Group) -> None:
        """Expects that the server answers after all, or ends when the client does."""
        try:
            try:
                await self._drain(connection, sent, HANG_UP_AFTER)
            except TimeoutError:
                connection.end()
                await self._drain(connection, sent, DEADLINE)
        except TimeoutError:
            self._blame(sent, f"the server keeps the connection for {DEADLINE:g} s though the client has gone")
        except Malformed as error:
            self._blame(sent, f"this is not an answer: {error}")
        else:
            self._check_end(connection, sent)
        connection.close()
        del self._lingering[connection]

    async def _drain(self, connection: Connection, sent: Group, timeout: float) -> None:
        while answer := await connection.answer(timeout):
            self._check(sent, answer)

    def _check_end(self, connection: Connection, sent: Group) -> None:
        if connection.has_part and not connection.is_reset:
            self._blame(sent, "an answer is not whole")

    def _check(self, sent: Group, answer: Answer, request: bytes | None = None) -> None:
        if fault := answer.fault:
            self._blame(sent, f"{fault}: {answer.raw!r}")
        if found := leaks(request or sent.data, answer.raw):
            self._blame(sent, f"{found} belongs to somebody else: {answer.raw!r}")

    def _blame(self, sent: Group, text: str) -> None:
        self._report.failures.append(
            f"GROUP={sent.number} make fuzz\n{text[:_SHOWN]}\nSent was {repr(sent.data)[:_SHOWN]}"
        )
