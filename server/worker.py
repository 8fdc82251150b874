"""gunicorn's ASGI worker on uvloop: a queue for a crowd to connect, and a stop that is neither held up nor loses work.

gunicorn's master loads this module before it forks, and what the master has loaded no reload renews. So everything else
is imported in the worker.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, override

from gunicorn.workers.gasgi import ASGIWorker

from server import log_stream
from server.limits import CLOSE_SECONDS, DRAIN_SECONDS, UNSENT_MAX
from server.shared_state import SHARED_STATE

if TYPE_CHECKING:
    from server.clients import Clients
    from server.metrics import WorkerMetrics
    from server.shared_metrics import SharedMetrics

_ACCEPT_SECONDS = 0.1
"""Seconds for which it still takes connections: some were made before the stop and wait in the kernel's queue."""
_PAUSE = 0.05
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Worker(ASGIWorker):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's own waits at a stop for kept-alive connections until the master kills it.

    So one of those would cost every request in flight and leave the database's connections to time out.
    """

    clients: "Clients"
    sockets: list[Any]
    max_requests: int
    is_dismissed = False
    """Set by the master when it tells the worker to leave."""
    shared_metrics: "SharedMetrics | None" = None
    """Set by the master, like the slot in it, if there are metrics. Their listener is the last one then."""
    slot: int | None = None
    metrics: "WorkerMetrics | None" = None

    @override
    def init_process(self) -> None:
        self.is_leaving = False
        self._task: asyncio.Task[Any] | None = None
        self._metrics_server: asyncio.Server | None = None
        # gunicorn would close connections without a word, and start a new worker when this one has gone.
        self._requests_max, self.max_requests = self.max_requests, sys.maxsize
        # The master watches the code. gunicorn would serve an answer of its own in place of code with a syntax error.
        self.cfg.set("reload", False)
        super().init_process()

    @override
    def init_signals(self) -> None:
        super().init_signals()
        # uvloop forgets a signal that comes before it runs, and by then the project has yet to be imported.
        for number in _STOPS:
            signal.signal(number, lambda *_: self._leave())
        if SHARED_STATE.is_stopping:
            # The signal may have come before the lines above.
            self._leave()

    @override
    async def _serve(self) -> None:
        from server import gunicorn_internals
        from server.clients import Clients

        self._task = asyncio.current_task()
        super().init_signals()
        gunicorn_internals.replace()
        self.clients = Clients(self.loop, self.cfg.worker_connections)
        # gunicorn leaves its own setting out here, and with the default of 100 a crowd of clients waits for seconds.
        self.loop.create_server = partial(self.loop.create_server, backlog=self.cfg.backlog)
        for listener in self.sockets:
            if listener.sock.family != socket.AF_UNIX:
                # What is accepted from it has the option as well. Not every system lets a listener have it.
                with suppress(OSError):
                    listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX)
        # A replacement may come up without the database: it serves what it can until that is back.
        self.state["is_replacement"] = SHARED_STATE.serving_age > 0
        # One that leaves in a reload has a successor on the same address, which load balancers should go on using.
        self.state["is_stopping"] = lambda: SHARED_STATE.is_stop_announced
        # A stop has come before it serves.
        with suppress(asyncio.CancelledError):
            if self.shared_metrics:
                await self._serve_metrics(self.shared_metrics)
            await super()._serve()

    async def _serve_metrics(self, shared: "SharedMetrics") -> None:
        """Answers for metrics from now on, also while the database is away at the start, and until the very end."""
        from server.metrics import MetricsProtocol, WorkerMetrics

        listener = self.sockets[-1]
        self.sockets = self.sockets[:-1]
        if self.slot is None:
            self.log.warning("There are too many workers: this one is left out of the metrics.")
            return
        self.metrics = WorkerMetrics(shared, self.slot, self.state)
        self.metrics.publish()
        self._metrics_server = await self.loop.create_server(lambda: MetricsProtocol(self), sock=listener.sock)

    @override
    def notify(self) -> None:
        """Called by gunicorn when the worker begins to serve, and once a second from then on."""
        super().notify()
        SHARED_STATE.serving_age = max(SHARED_STATE.serving_age, self.age)
        if self.nr >= self._requests_max:
            SHARED_STATE.worn_age = self.age
        self.clients.sweep()
        if self.metrics:
            self.metrics.publish()

    @override
    def handle_exit_signal(self) -> None:
        self._leave()

    @override
    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._leave()

    def _leave(self) -> None:
        if self.is_leaving:
            return
        self.is_leaving = True
        if self._task is None:
            # It has nothing to finish yet. An exception in the middle of an import might be caught, or leave a lock
            # behind for which the end would wait.
            self.log.info("Worker exiting (pid: %s)", self.pid)
            log_stream.drain()
            os._exit(0)
        # gunicorn looks only once a second whether to stop, and does when its pause is interrupted.
        self._task.cancel()

    @override
    async def _shutdown(self) -> None:
        self.is_leaving = True
        if not self._quick_shutdown:
            await self._drain()
        self.alive = False
        if self._metrics_server:
            self._metrics_server.close()
        self.clients.close_idle()
        # Whatever a client still sends then is cut off: the master's timeout counts the drain as well.
        self.cfg.set("graceful_timeout", max(1, self.cfg.graceful_timeout - DRAIN_SECONDS - CLOSE_SECONDS))
        await super()._shutdown()
        if self.metrics:
            self.metrics.publish()
        for number in _STOPS:
            self.loop.remove_signal_handler(number)
            # One that comes now would cut off the last lines of the log.
            signal.signal(number, signal.SIG_IGN)

    async def _drain(self) -> None:
        """Serves on for a moment, with answers that end their connections.

        A client may have sent a request that has yet to arrive, and a closed connection would leave it without answer.
        """
        started = self.loop.time()
        while (passed := self.loop.time() - started) < DRAIN_SECONDS and not self._quick_shutdown:
            if passed >= _ACCEPT_SECONDS:
                await self._stop_listening()
                if not self.clients.connections:
                    return
            await asyncio.sleep(_PAUSE)

    async def _stop_listening(self) -> None:
        """Takes the clients that are still in the kernel's queue, which it would reset if no other worker listens."""
        from server.protocol import Protocol

        waiting = []
        for server, listener in zip(self.servers, self.sockets, strict=False):
            with suppress(OSError):
                # It does not block, and in the end it fails because the queue is empty, or because it is closed.
                while True:
                    waiting.append(listener.sock.accept()[0])
            server.close()
        for client in waiting:
            await self.loop.connect_accepted_socket(lambda: Protocol(self), client, ssl=self._get_ssl_context())

    def await_orphan(self, task: "asyncio.Task[None]") -> None:
        """Counts a request whose client hung up: the end of its client does not cancel it, so neither may a stop."""
        self.nr_conns += 1
        task.add_done_callback(self._forget_orphan)

    def _forget_orphan(self, _task: "asyncio.Task[None]") -> None:
        self.nr_conns -= 1
