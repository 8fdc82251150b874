"""A bad network: a TCP proxy between the server and its database, which delays, stalls and cuts as it is told.

It runs in a thread with an event loop of its own, so that it keeps its pace whatever its user's loop does. Every
control may be used from any thread, and has had its effect when it returns.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from tests.faults.relay import RESET, Cut, Direction, Ending, Link, Rules

BACKLOG = 1024


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes everything on to the port `target` there."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.connect_delay = 0.0
        """Seconds until a new connection goes on to the target; it is accepted at once."""
        self.refuse = False
        """Whether new connections are reset as soon as they are accepted."""
        self.accepted = 0
        self._rules = Rules()
        self._fillers: dict[tuple[str, int], socket.socket] = {}
        """By their addresses: our own connections that wait so that no other can be made."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.SelectorEventLoop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.socket()
        self._listener.setblocking(False)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(BACKLOG)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._flows.set()
        self._thread.start()
        self._do(self._start_accepting)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def delay(self) -> float:
        """Seconds that each direction takes longer."""
        return self._rules.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._rules.delay = seconds

    @property
    def cut(self) -> int:
        """Connections that were cut by order: by `cut_all`, `cut_when` or `refuse`."""
        return self._rules.cut

    @property
    def open(self) -> int:
        return len(self._rules.links)

    def stall(self, direction: Direction = "both") -> None:
        """Takes what is sent and delivers nothing, not even that one end has closed, until `resume`.

        With `replies` the server still hears its clients. Otherwise a new connection is accepted and goes no further.
        """
        self._do(self._set_stalled, direction)

    def stall_connects(self) -> None:
        """Leaves new connections unanswered, as a host that is not there does, until `resume`; others go on."""
        self._do(self._stop_accepting)

    def resume(self) -> None:
        """Ends every stall; what was held back arrives, but for connections whose clients have given up."""
        self._do(self._resume)

    def cut_all(self, then: Ending = "reset") -> None:
        """Cuts every connection at both ends."""
        self._do(self._each, lambda link: link.cut(then))

    def half_close(self) -> None:
        """Tells every client that the server says no more, while what the clients say is still passed on."""
        self._do(self._each, lambda link: link.client.finish())

    def cut_when(self, pattern: bytes, *, before: bool, times: int = 1, then: Ending = "reset") -> Cut:
        """Cuts each connection on which a client sends the pattern, so many times altogether.

        With `before` the server gets neither the end of the pattern nor what came with it. Otherwise it gets all that
        came with the pattern and has the time to answer, and the client hears nothing of the answer.
        """
        order = Cut(pattern, before, times, then)
        self._do(self._rules.cuts.append, order)
        return order

    def forget(self, order: Cut) -> None:
        """Takes an order of `cut_when` back."""
        self._do(self._rules.cuts.remove, order)

    def _each(self, treat: Callable[[Link], None]) -> None:
        for link in list(self._rules.links):
            treat(link)

    def _do[*Values](self, action: Callable[[*Values], object], *values: *Values) -> None:
        async def run() -> None:
            action(*values)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _start_accepting(self) -> None:
        self._accepting = self._spawn(self._accept())

    async def _accept(self) -> None:
        while True:
            connection, address = await self._loop.sock_accept(self._listener)
            if address in self._fillers:
                self._fillers.pop(address).close()
                connection.close()
                continue
            self.accepted += 1
            if self.refuse:
                self._rules.cut += 1
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()
            else:
                self._spawn(self._connect(Link(self._rules), connection))

    async def _connect(self, link: Link, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: link.client, connection)
        await asyncio.sleep(self.connect_delay)
        while self._rules.holds("requests"):
            await self._flows.wait()
        if link.is_given_up:
            link.drop("fin")
            return
        try:
            await self._loop.create_connection(lambda: link.server, "127.0.0.1", self.target)
        except OSError:
            link.drop("reset")
        else:
            link.update()

    def _stop_accepting(self) -> None:
        self._accepting.cancel()
        # The kernel answers nobody while as many wait as may, and that is one.
        self._listener.listen(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers[filler.getsockname()] = filler

    def _set_stalled(self, direction: Direction) -> None:
        self._rules.stalled = direction
        self._flows.clear()
        self._each(Link.update)

    def _resume(self) -> None:
        self._rules.stalled = None
        self._flows.set()
        self._each(Link.update)
        if self._accepting.cancelled():
            self._listener.listen(BACKLOG)
            self._start_accepting()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._each(lambda link: link.drop("reset"))
        for filler in self._fillers.values():
            filler.close()
        # Aborted connections are gone one turn of the loop later.
        await asyncio.sleep(0)
        self._listener.close()
