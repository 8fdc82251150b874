"""One connection of a client: gunicorn's, with deadlines, and with our answers to what never becomes a request."""

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, override

from gunicorn.asgi.parser import ParseError
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.http.errors import ParseException

from server.parser import Parser, problem_of
from server.responses import Linger, rendered
from web.headers import ALWAYS
from web.problems import InternalError, Problem, RequestTimedOut, ServiceUnavailable
from web.request_ids import new_request_id

if TYPE_CHECKING:
    from server.worker import Worker

HEAD_TIMEOUT = 10.0
"""Seconds for a client to say anything, and again for the head of a request to arrive whole."""
UNREAD_TIMEOUT = 10.0
"""Seconds for a client to take more of its answer, which shows when the kernel does: see `UNSENT_MAX`."""
BUFFERED = 64 * 1024
"""Bytes of a body that may wait to be taken before no more are read; gunicorn's own limit is four times that."""

_HEADERS = b"".join(b"%s: %s\r\n" % header for header in ALWAYS) + b"\r\n"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that sends nothing any more, and waits for nothing."""


class Protocol(ASGIProtocol):  # type: ignore[misc] # gunicorn has no types
    worker: "Worker"
    transport: Any
    _closed: bool
    _callback_parser: Parser
    _response_buffer: bytes

    has_own_place = False
    """True for a connection that is not one of a client of the API."""

    _answered: Any = None
    """The request whose answer has begun."""
    _has_ended = False
    """True once the client has closed its half of the connection."""
    _stage: tuple[str, int] = ("new", 0)
    """The state that the last sweep found; `_since` is when a sweep first found it."""
    _since = 0.0

    @override
    def connection_made(self, transport: Any) -> None:
        if not self.has_own_place and not self.worker.clients.has_room():
            self.worker.clients.refuse(transport, ServiceUnavailable("There are too many connections."))
            return
        super().connection_made(transport)
        self._since = self.worker.loop.time()
        self._max_buffer_size = BUFFERED
        self.worker.clients.connections.add(self)

    @override
    def eof_received(self) -> bool:
        """A client may close its half when it has asked, and wait for the answer."""
        self._has_ended = self._current_request is not None and self._callback_parser.is_complete
        return self._has_ended

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.clients.connections.discard(self)
        # A task that waits to write more to this client need not.
        self._flow_control.resume_writing()
        if self._awaiting_request:
            # gunicorn would leave it waiting for a request until the time of one that is being answered is over.
            self._task = None
            self._request_ready.set()
        elif self._task and not self._task.done():
            self.worker.await_orphan(self._task)
        super().connection_lost(exc)
        self._forget_input()

    @override
    def _feed_callback_parser(self, data: bytes) -> bool:
        try:
            self._callback_parser.feed(data)
        except (ParseError, ParseException) as error:
            self._refuse(problem_of(error))
            return False
        return True

    @override
    def _is_websocket_upgrade(self, request: Any) -> bool:
        """There are none, and a server may ignore the wish (RFC 9110, section 7.8)."""
        return False

    @override
    def _build_http_scope(self, request: Any, sockname: object, peername: object) -> dict[str, Any]:
        scope: dict[str, Any] = super()._build_http_scope(request, sockname, peername)
        scope["abort"] = self.abort
        scope["server_adds_headers"] = True
        return scope

    @override
    def _send_response_start(self, *arguments: Any, **options: Any) -> None:
        """Adds headers that all answers have; gunicorn looks twice at each that it is given, and these took 2 %."""
        super()._send_response_start(*arguments, **options)
        self._response_buffer = self._response_buffer.removesuffix(b"\r\n") + _HEADERS

    @override
    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        """Asked once, when an answer begins."""
        self._answered = request
        if not self._callback_parser.is_complete:
            # What is left of the body would be taken for the next request.
            return True
        if (self.worker.is_leaving or self._has_ended) and not self._callback_parser.remaining():
            return True
        closes: bool = super()._will_close(request, response_requires_close)
        return closes

    @override
    def _send_error_response(self, status: int, message: str, extra_headers: object = ()) -> None:
        """Called by gunicorn for one reason only: the application failed."""
        request_id = new_request_id()
        self._answer(InternalError(request_id), request_id)

    @override
    def _arm_keepalive_timer(self) -> None:
        """Does nothing: `sweep` ends idle connections, which spares each request a timer."""

    @override
    def _close_transport(self) -> None:
        parser = self._callback_parser
        self._end(lingers=bool(parser.remaining()) if parser.is_complete else parser.has_begun)

    @property
    def is_idle(self) -> bool:
        """True while it waits for a request, or for the rest of its head."""
        # One that has come whole is still awaited until its task goes on.
        return self._awaiting_request and self._current_request is None and not self._finishing_calls

    @property
    def idle_since(self) -> float | None:
        """The time on the event loop's clock when it was first seen between two requests."""
        is_idle = self._stage == ("idle", self.req_count) and self.is_idle and not self._callback_parser.has_begun
        return self._since if is_idle and not self.transport.get_write_buffer_size() else None

    def close_idle(self) -> None:
        self._end(lingers=False)

    def abort(self) -> None:
        """Ends the connection by a reset, so that a client does not take what it has of an answer for the whole.

        A connection that ends in good order is the end of an answer in HTTP/1.0.
        """
        self._closed = True
        with suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def sweep(self, now: float) -> None:
        """Ends it if its stage has lasted too long; called about once a second."""
        unread = self.transport.get_write_buffer_size()
        if unread:
            stage, patience = ("unread", unread), UNREAD_TIMEOUT
        elif self._closed or not self.is_idle:
            # A request that is being answered has a deadline of its own, and so has a connection that lingers.
            stage, patience = ("busy", 0), float("inf")
        elif self._callback_parser.has_begun:
            stage, patience = ("head", self.req_count), HEAD_TIMEOUT
        elif self.req_count == 1:
            stage, patience = ("silent", 0), HEAD_TIMEOUT
        elif self._has_ended:
            stage, patience = ("ended", 0), 0.0
        else:
            stage, patience = ("idle", self.req_count), self._keepalive
            # Its headers need not be kept.
            self._answered = None
        if stage != self._stage:
            # A silent client is so since it connected.
            self._stage, self._since = stage, self._since if stage[0] == "silent" else now
        elif now - self._since >= patience:
            self._time_out(stage[0])

    def _time_out(self, stage: str) -> None:
        match stage:
            case "unread":
                self.abort()
            case "head":
                self._refuse(RequestTimedOut("head of the request", HEAD_TIMEOUT))
            case _:
                self._close_transport()

    def _refuse(self, problem: Problem) -> None:
        # Once an answer has begun, another one would be taken for that to the next request.
        if self._current_request is None or self._answered is not self._current_request:
            self._answer(problem, new_request_id())
        self._end(lingers=True)

    def _answer(self, problem: Problem, request_id: str) -> None:
        parser = self._callback_parser
        self._safe_write(rendered(problem, request_id, parser.origin, parser.method or b""))

    def _end(self, *, lingers: bool) -> None:
        """Closes it when all has been written; it lingers if the client has begun what it has not finished."""
        if self._closed:
            return
        self._closed = True
        self._request_ready.set()
        if lingers:
            self._forget_input()
            Linger(self.transport, self.connection_lost)
        else:
            self.transport.close()

    def _forget_input(self) -> None:
        """Drops what has come; without that it would stay until Python looks for garbage."""
        self._callback_parser.forget()
        if self._body_receiver is not None:
            self._body_receiver.signal_disconnect()
            self._body_receiver._chunks.clear()  # noqa: SLF001 - it offers no other way
