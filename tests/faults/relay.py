"""One connection through the proxy of `tests.faults.proxy`: what it does with what passes, by rules that all share."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, override

type Direction = Literal["both", "requests", "replies"]
type Ending = Literal["reset", "fin"]

ANSWER_TIMEOUT = 10.0
"""Seconds that a server has to answer what reached it just before its connection was cut."""
RESET = struct.pack("ii", 1, 0)
"""What SO_LINGER must say so that closing a socket resets its connection."""


@dataclass
class Cut:
    """An order to cut the connections on which a client sends this."""

    pattern: bytes
    before: bool
    times: int
    then: Ending
    made: int = 0

    @property
    def is_due(self) -> bool:
        return self.made < self.times


@dataclass
class Rules:
    delay: float = 0.0
    stalled: Direction | None = None
    cuts: list[Cut] = field(default_factory=list)
    links: "set[Link]" = field(default_factory=set)
    """Those of which one end is still open."""
    cut: int = 0
    """Connections that were cut by order."""

    def holds(self, direction: Direction) -> bool:
        return self.stalled in ("both", direction)

    def order_for(self, stream: bytes) -> Cut | None:
        return next((order for order in self.cuts if order.is_due and order.pattern in stream), None)

    @property
    def longest_pattern(self) -> int:
        return max((len(order.pattern) for order in self.cuts if order.is_due), default=0)


class Link:
    """A connection of a client, with its other half to the server."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.client = End(self, "requests")
        self.server = End(self, "replies")
        self._tail = b""
        """The last that the client sent, in which a pattern may have begun."""
        self._is_over = False
        rules.links.add(self)

    @property
    def is_given_up(self) -> bool:
        """Whether the client has closed."""
        return self.client.is_closed or any(data is None for data in self.client.underway)

    def update(self) -> None:
        """Does what the rules now say."""
        for end in (self.client, self.server):
            end.read_unless(self.rules.holds(end.direction))
            end.pass_on_all()

    def received(self, end: "End", data: bytes) -> None:
        if self._is_over:
            if end is self.server:
                # It has answered what nobody may hear.
                self.server.close("fin")
            return
        order = self._order_for(data) if end is self.client else None
        if order and order.before:
            order.made += 1
            self.cut(order.then)
            return
        end.underway.append(data)
        if order:
            order.made += 1
            end.pass_on_all()
            self._leave_answering(order.then)
        elif self.rules.delay:
            asyncio.get_running_loop().call_later(self.rules.delay, end.pass_on)
        else:
            end.pass_on_all()

    def ended(self, end: "End") -> None:
        """One end says no more, which the other one hears in its turn."""
        end.underway.append(None)
        asyncio.get_running_loop().call_later(self.rules.delay, end.pass_on)

    def cut(self, then: Ending) -> None:
        self.rules.cut += not self._is_over
        self.drop(then)

    def drop(self, then: Ending) -> None:
        self._is_over = True
        self.client.close(then)
        self.server.close(then)

    def finished(self) -> None:
        if self.client.has_finished and self.server.has_finished:
            self.drop("fin")

    def lost(self, end: "End", error: Exception | None) -> None:
        if not self._is_over:
            self._is_over = True
            self.other(end).close("reset" if error else "fin")
        if self.client.is_closed and self.server.is_closed:
            self.rules.links.discard(self)

    def other(self, end: "End") -> "End":
        return self.server if end is self.client else self.client

    def _order_for(self, data: bytes) -> Cut | None:
        stream = self._tail + data
        longest = self.rules.longest_pattern
        self._tail = stream[-longest + 1 :] if longest > 1 else b""
        return self.rules.order_for(stream)

    def _leave_answering(self, then: Ending) -> None:
        self.rules.cut += 1
        self._is_over = True
        self.client.close(then)
        asyncio.get_running_loop().call_later(ANSWER_TIMEOUT, self.server.close, "fin")


class End(asyncio.Protocol):
    """One end of a link; what comes in here goes out at the other one."""

    def __init__(self, link: Link, direction: Direction) -> None:
        self.direction: Direction = direction
        """What comes in here: requests or replies."""
        self.underway: deque[bytes | None] = deque()
        """What came in here and has not left at the other end; None for the end of it."""
        self.has_finished = False
        """Whether it has been told that nothing more will come."""
        self.is_closed = False
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._is_read = True

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.is_closed:
            transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        self._link.received(self, data)

    @override
    def eof_received(self) -> bool:
        self._link.ended(self)
        return True

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._link.lost(self, exc)

    def read_unless(self, stalled: bool) -> None:
        if self._transport and not self._transport.is_closing() and self._is_read == stalled:
            self._is_read = not stalled
            if stalled:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def pass_on(self) -> bool:
        """Passes on what came first, which is not always what was waited for, as the delay changes."""
        other = self._link.other(self)
        if not self.underway or other._transport is None or self._link.rules.holds(self.direction):
            return False
        data = self.underway.popleft()
        if data is None:
            other.finish()
        elif not other._transport.is_closing() and not other.has_finished:
            other._transport.write(data)
        return True

    def pass_on_all(self) -> None:
        while self.pass_on():
            pass

    def finish(self) -> None:
        """Tells it that nothing more will come."""
        if self._transport and not self._transport.is_closing() and not self.has_finished:
            self.has_finished = True
            # It may be gone already, and we have yet to hear of it.
            with contextlib.suppress(OSError):
                self._transport.write_eof()
            self._link.finished()

    def close(self, then: Ending) -> None:
        if self._transport is None:
            self.is_closed = True
            self._link.lost(self, None)
        elif then == "fin":
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
