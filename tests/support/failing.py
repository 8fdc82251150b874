"""The application with two more paths, which fail in ways that none of ours does."""

from typing import Any

from config import asgi

type Message = dict[str, Any]


async def application(scope: Message, receive: Any, send: Any) -> None:
    match scope.get("path"):
        case "/fails":
            raise RuntimeError("the application fails")
        case "/early":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            # It is not done before the body has gone wrong.
            while (await receive())["type"] != "http.disconnect":
                pass
        case _:
            await asgi.application(scope, receive, send)
