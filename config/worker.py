"""gunicorn's ASGI worker on uvloop: room for a crowd to connect, and a stop that nothing holds up or loses."""

import asyncio
import heapq
import resource
import signal
from contextlib import suppress
from functools import partial
from typing import Any, override

from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIWorker

from config.board import BOARD
from config.edge import Linger, new_request_id, rendered
from config.env import env
from config.protocol import Protocol
from todos.errors import Problem

DRAIN_SECONDS = 1.0
"""How long a worker that stops still takes requests on connections that it has."""
_ACCEPT_SECONDS = 0.1
"""How long it still takes connections, as some wait that were made before."""
_PAUSE = 0.05
_ASKED_WITHIN = 1.5
"""Longer than from one look at the board to the next."""
_SEEN_AT_ONCE = 500
_OTHER_FILES = 100
"""What a worker may have open besides connections of clients and to the database."""
_FEWEST_CLIENTS = 16
_EVICTED_AT_ONCE = 32
_IDLE_SECONDS = 1.0
"""How long a connection must have been idle to lose its place to a new one."""
_TURNED_AWAY_POLITELY = 50
"""How many at a time get to read why, as each keeps a file open meanwhile."""

# The worker looks it up there for each connection.
gasgi.ASGIProtocol = Protocol


class Worker(ASGIWorker):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's own waits at a stop for kept-alive connections until the master kills it.

    So one of those would cost every request in flight and leave the database's connections to time out.
    """

    @override
    def init_process(self) -> None:
        self.protocols: set[Protocol] = set()
        self.is_leaving = False
        self._serving: asyncio.Task[Any] | None = None
        self._successors: asyncio.Task[None] | None = None
        self._none_is_idle = False
        self._turned_away = 0
        self._limit = _connection_limit(self.cfg.worker_connections)
        super().init_process()

    @override
    def init_signals(self) -> None:
        super().init_signals()
        # uvloop forgets a signal that comes before it runs, and by then the project has yet to be imported.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: self.handle_exit_signal())

    @override
    async def _serve(self) -> None:
        super().init_signals()
        # gunicorn leaves its own setting out here, and with the default of 100 a crowd of clients waits for seconds.
        self.loop.create_server = partial(self.loop.create_server, backlog=self.cfg.backlog)
        if BOARD.has_served:
            # The application may then come up without the database, as the end of this worker would be that of all.
            self.state["replaces"] = True
        await super()._serve()

    @override
    def notify(self) -> None:
        """Called by gunicorn when the worker begins to serve, and once a second from then on."""
        super().notify()
        self._serving = asyncio.current_task()
        BOARD.note_serving(self.age)
        self._none_is_idle = False
        self._look(list(self.protocols))
        if BOARD.is_asked_for_connection(within=_ASKED_WITHIN) and self.state["database"].cede_connection():
            BOARD.forget_request()

    def _look(self, connections: list[Protocol]) -> None:
        """At some of them, and then at the rest, so that nobody has to wait for it."""
        now = self.loop.time()
        for connection in connections[-_SEEN_AT_ONCE:]:
            connection.look(now)
        del connections[-_SEEN_AT_ONCE:]
        if connections:
            self.loop.call_soon(self._look, connections)

    # Stopping --------------------------------------------------------------------------------------------------------

    @override
    def handle_exit_signal(self) -> None:
        if self._serving is None:
            self.alive = False
        elif self._successors is None and BOARD.is_replaced(self.age):
            self._successors = self.loop.create_task(self._await_successors())
        else:
            # Nobody replaces it, or it has been told twice.
            self._leave()

    @override
    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._leave()

    async def _await_successors(self) -> None:
        """Serves on until others do, so that nobody has to wait for them to start."""
        for _ in range(int(self.cfg.graceful_timeout / _PAUSE)):
            if BOARD.has_successor:
                break
            await asyncio.sleep(_PAUSE)
        self._leave()

    def _leave(self) -> None:
        if self._serving and not self.is_leaving:
            self.is_leaving = True
            # gunicorn looks only once a second whether to stop, and does when its pause is interrupted.
            self._serving.cancel()

    @override
    async def _shutdown(self) -> None:
        self.is_leaving = True
        if not self._quick_shutdown:
            await self._drain()
        self.alive = False
        for connection in list(self.protocols):
            if connection.is_idle:
                connection.leave()
        # Whoever is still sending a body is left behind before the master's patience ends.
        self.cfg.set("graceful_timeout", int(env.request_timeout) + 1)
        await super()._shutdown()

    async def _drain(self) -> None:
        """Serves on for a moment, with answers that end their connections.

        A client may have sent a request that has yet to arrive, and none would be answered on a connection that is
        closed.
        """
        started = self.loop.time()
        while (passed := self.loop.time() - started) < DRAIN_SECONDS and not self._quick_shutdown:
            if passed >= _ACCEPT_SECONDS:
                await self._stop_listening()
                if not self.protocols:
                    return
            await asyncio.sleep(_PAUSE)

    async def _stop_listening(self) -> None:
        """Takes who is still in the queue, as the kernel would reset them if nobody else listens."""
        waiting = []
        for server, listener in zip(self.servers, self.sockets, strict=False):
            with suppress(OSError):
                # It does not block, and in the end it fails because nobody is left, or because it is closed already.
                while True:
                    waiting.append(listener.sock.accept()[0])
            server.close()
        for client in waiting:
            await self.loop.connect_accepted_socket(lambda: Protocol(self), client, ssl=self._get_ssl_context())

    def await_orphan(self, task: "asyncio.Task[None]") -> None:
        """A client who hung up does not cancel his request, so neither may a stop."""
        self.nr_conns += 1
        task.add_done_callback(self._forget_orphan)

    def _forget_orphan(self, _task: "asyncio.Task[None]") -> None:
        self.nr_conns -= 1

    # Too many clients ------------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether one more client may come; if need be, those go who have been idle longest."""
        if len(self.protocols) < self._limit:
            return True
        if not self._none_is_idle:
            self._evict()
        return len(self.protocols) < self._limit

    def _evict(self) -> None:
        latest = self.loop.time() - _IDLE_SECONDS
        idle = [(since, id(each), each) for each in self.protocols if (since := each.idle_since) and since < latest]
        # Not to look at everybody for each of a flood of clients, several go at once, and if none can, that is noted.
        self._none_is_idle = not idle
        for _, _, connection in heapq.nsmallest(min(_EVICTED_AT_ONCE, 1 + self._limit // 8), idle):
            self.protocols.discard(connection)
            connection.leave()

    def turn_away(self, transport: Any, problem: Problem) -> None:
        """Tells a client why there is no place for him, if there is time for that."""
        transport.write(rendered(problem, new_request_id()))
        if self._turned_away < _TURNED_AWAY_POLITELY:
            self._turned_away += 1
            Linger(transport, self._forget_turned_away)
        else:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()

    def _forget_turned_away(self, _error: Exception | None) -> None:
        self._turned_away -= 1


def _connection_limit(wanted: int) -> int:
    """How many clients may be connected at once, so that the process never runs out of files to open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(hard - _OTHER_FILES - env.database_pool_max, _FEWEST_CLIENTS))
