"""gunicorn's ASGI worker, with a stop that silent clients cannot hold up."""

from typing import override

from gunicorn.asgi import protocol
from gunicorn.workers.gasgi import ASGIWorker

from config.env import env

# gunicorn would say "Unknown".
protocol._REASON_PHRASES.setdefault(412, "Precondition Failed")  # noqa: SLF001 - it offers no other way


class Worker(ASGIWorker):  # type: ignore[misc] # gunicorn has no types
    """Closes at a stop what has nothing to finish: gunicorn's own waits for it until the master kills the worker.

    So one kept-alive connection would cost every request in flight and leave the database's connections to time out.
    """

    @override
    async def _shutdown(self) -> None:
        for server in self.servers:
            server.close()
            for transport in list(server._clients):  # noqa: SLF001 - asyncio closes all of them or none
                protocol = transport.get_protocol()
                if protocol._awaiting_request and not protocol._finishing_calls:  # noqa: SLF001 - gunicorn does not tell
                    transport.close()
        # Whoever is still sending a body is left behind before the master's patience ends.
        self.cfg.set("graceful_timeout", int(env.request_timeout) + 1)
        await super()._shutdown()
