"""One connection to the server under attack."""

import asyncio
from collections.abc import Sequence
from typing import cast, override

from tests.fuzz.answers import Answer, Reader


class Connection(asyncio.Protocol):
    """Returns the answers one by one."""

    def __init__(self) -> None:
        self.is_over = False
        """The server has closed it."""
        self.is_reset = False
        """Perhaps before the last answer arrived."""
        self._reader = Reader()
        self._news: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The class of uvloop's is another.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._wake()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over, self.is_reset = True, exc is not None
        self._reader.is_over = exc is None
        self._wake()

    def _wake(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)

    @property
    def has_part(self) -> bool:
        """True while there are bytes that are not a whole answer."""
        return self._reader.has_part

    async def send(self, pieces: Sequence[bytes]) -> None:
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.001)
            if not self._transport.is_closing():
                self._transport.write(piece)

    async def answer(self, timeout: float, *, without_body: bool = False) -> Answer | None:
        """The next final answer, or None at the end. Raises `TimeoutError` when nothing comes for so long."""
        while True:
            answer = self._reader.next(without_body=without_body)
            if answer and answer.status >= 200:
                return answer
            if answer is None and self.is_over:
                return None
            if answer is None:
                self._news = asyncio.get_running_loop().create_future()
                async with asyncio.timeout(timeout):
                    await self._news

    def end(self) -> None:
        """Tells the server that nothing more will be sent."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        self._transport.close()
