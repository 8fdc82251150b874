"""An application that fails in ways that ours does not."""

import asyncio
from typing import Any

type Message = dict[str, Any]


async def application(scope: Message, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    if scope["path"] == "/fails":
        raise RuntimeError("the application fails")
    # It does not look at the body, and is not done with its answer.
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
    await asyncio.sleep(0.5)
