"""An answer that is sent while it is made: at the pace of the client, and visibly incomplete unless it is whole."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from typing import Any

from todos.responses import StreamedResponse
from web.errors import translate
from web.observation import CLIENT_GONE, Observation

STREAM_TIMEOUT = 300.0
"""Seconds for all of it. It holds a connection to the database, and keeps the database from removing old versions of
rows; 100 MB, or some 250,000 tasks, take a client with 3 Mbit/s that long."""
CUT_OFF = 408
"""The status in the log of an answer that was cut off because the client took too long. The client was sent 200."""

logger = logging.getLogger(__name__)


async def send_pieces(
    response: StreamedResponse,
    observation: Observation,
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    abort: Callable[[], None],
) -> tuple[int, int]:
    """Sends the body, and returns the status for the log and the number of bytes sent.

    The statement ends when the client hangs up. `abort` ends the connection so that the client cannot take what it has
    for the whole.
    """
    size = 0
    watch = asyncio.ensure_future(_disconnected(receive))
    is_whole = False
    limit = asyncio.timeout(STREAM_TIMEOUT)

    def hang_up(_watch: object) -> None:
        # It is too late if all has been sent.
        with suppress(RuntimeError):
            limit.reschedule(0)

    try:
        async with limit, aclosing(response.rest):
            watch.add_done_callback(hang_up)
            piece = response.first
            while piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                size += len(piece)
                piece = await anext(response.rest, b"")
        await send({"type": "http.response.body", "body": b""})
        is_whole = True
    except Exception as error:  # noqa: BLE001 - whatever it is, the client must see that the answer is not whole
        if not limit.expired():
            return translate(error, observation.request_id).status, size
        if watch.done():
            return CLIENT_GONE, size
        logger.warning("Cut off an answer: the client took %d bytes of it in %g seconds", size, STREAM_TIMEOUT)
        return CUT_OFF, size
    finally:
        watch.cancel()
        if not is_whole:
            abort()
    return response.status_code, size


async def _disconnected(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
