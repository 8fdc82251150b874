"""gunicorn's ASGI worker on uvloop: room for a crowd to connect, and a stop that nothing holds up or loses."""

import signal
from asyncio import BaseTransport
from functools import partial
from typing import override

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi
from gunicorn.workers.gasgi import ASGIWorker

from config.env import env

# gunicorn would say "Unknown".
protocol._REASON_PHRASES.setdefault(412, "Precondition Failed")  # noqa: SLF001 - it offers no other way


class Protocol(ASGIProtocol):  # type: ignore[misc] # gunicorn has no types
    """One connection of a client, which its worker knows of."""

    worker: "Worker"
    transport: BaseTransport

    @override
    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.worker.protocols.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.protocols.discard(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        return self._awaiting_request and not self._finishing_calls


# The worker looks it up there for each connection.
gasgi.ASGIProtocol = Protocol


class Worker(ASGIWorker):  # type: ignore[misc] # as above
    """Closes at a stop what has nothing to finish: gunicorn's own waits for it until the master kills the worker.

    So one kept-alive connection would cost every request in flight and leave the database's connections to time out.
    """

    @override
    def init_process(self) -> None:
        self.protocols: set[Protocol] = set()
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
        await super()._serve()

    @override
    async def _shutdown(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.protocols):
            if connection.is_idle:
                connection.transport.close()
        # Whoever is still sending a body is left behind before the master's patience ends.
        self.cfg.set("graceful_timeout", int(env.request_timeout) + 1)
        await super()._shutdown()
