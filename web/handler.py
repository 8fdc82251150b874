"""One HTTP request from bytes to bytes, through Django's middleware and URLs, without Django's own ASGI handler.

That one makes a thread executor for every request, runs signals for a database layer that is not used here in
threads, reads bodies of any size for any time, and cancels a view whose client hangs up, even in the middle of a
write. An empty view answered a fifth as often through it (docs/adr/0003-lean-asgi-handler.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from io import BytesIO
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, get_resolver
from django.utils.module_loading import import_string

from todos.errors import InvalidInput
from todos.requests import PATCH_TYPES, Request
from todos.responses import StreamedResponse
from web import access, cors, request_ids, traces
from web.body_limits import BodyLimits, body_limits
from web.errors import translate
from web.headers import ALWAYS, NO_STORE, POLICY, POLICY_OF_PAGES, Page
from web.observation import CLIENT_GONE, COUNTS, Observation
from web.problems import (
    ContentTooLarge,
    MethodNotAllowed,
    PathNotFound,
    RequestTimedOut,
    render,
)
from web.streaming import send_pieces

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]

BODY_TIMEOUT = 10.0
"""Seconds for a body to arrive whole."""

_USUALLY_WITHOUT_BODY = ("GET", "DELETE", "OPTIONS")
_LENGTH_DIGITS = 18
"""Digits of a Content-Length beyond which it need not be read: no limit is that large."""


class ClientGone(Exception):
    """The client hung up before its request was whole, so no answer is awaited."""


class Handler:
    """Answers every request, whatever happens."""

    def __init__(self) -> None:
        self._respond: Callable[[Request], Awaitable[HttpResponseBase]] = _call_view
        for name in reversed(settings.MIDDLEWARE):
            # All of it is async. Django's own loader would answer a failure in HTML, and from a thread.
            self._respond = import_string(name)(self._respond)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        method = scope["method"]
        is_head = method == "HEAD"
        if is_head:
            # The answer of GET, without the body (RFC 9110, section 9.3.2).
            scope = {**scope, "method": "GET"}
        headers = dict(scope["headers"])
        trace_id = traces.trace_id_from(headers.get(b"traceparent"))
        observation = Observation(method, request_ids.request_id_from(headers), trace_id)
        observation.enter()
        fields = [(b"X-Request-ID", observation.request_id.encode("ascii"))]
        if trace_id:
            fields.append((b"traceparent", headers[b"traceparent"]))
        if not scope.get("server_adds_headers"):
            fields += ALWAYS
        status, size = CLIENT_GONE, 0
        try:
            response = await self._answer(scope, headers, receive, observation)
            body = b""
            if isinstance(response, StreamedResponse):
                if not is_head:
                    await send(_start(response, fields))
                    abort = scope.get("abort", _nothing)
                    status, size = await send_pieces(response, observation, receive, send, abort)
                    return
                await response.rest.aclose()
            elif not is_head:
                body = response.content
            status, size = response.status_code, len(body)
        except ClientGone:
            return
        finally:
            observation.end(status, size)
        await send(_start(response, fields))
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Message, headers: dict[bytes, bytes], receive: Receive, observation: Observation
    ) -> HttpResponse | StreamedResponse:
        """The answer to the request, about which the observation learns what there is to tell."""
        try:
            request = _request(scope)
            request.request_id = observation.request_id
            request.database, request.verifier = scope["state"]["database"], scope["state"]["verifier"]
            request.receive_body = partial(_read_body, scope["method"], headers, receive)
            try:
                response = await self._respond(request)
            finally:
                if match := request.resolver_match:
                    observation.route = match.route
                    # Where no tokens are asked for, whose tasks they are is all that is known of the caller.
                    observation.user_id = request.signed_in if request.verifier else match.kwargs.get("user_id")
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - whatever happens is answered as a problem
            origin = headers.get(b"origin", b"").decode("latin-1")
            response = cors.add_headers(render(translate(error, observation.request_id)), origin)
        assert isinstance(response, HttpResponse | StreamedResponse)
        if response.status_code == 200 and scope["method"] == "POST":
            COUNTS.replays += "Idempotency-Replayed" in response.headers
        return response


async def _call_view(request: Request) -> HttpResponseBase:
    """The innermost part of the middleware: its errors are problems already, so that they get headers as well."""
    try:
        match = get_resolver().resolve(request.path_info)
        request.resolver_match = match
        await access.admit(request, match)
        limits = body_limits(match)
        if limits.places is None:
            response = await _view(request, match, limits)
        else:
            # Before the body is read, as it takes memory. A path may spell the user in many ways, or have any text.
            with limits.places.place(request.signed_in or match.kwargs["user_id"].lower()):
                response = await _view(request, match, limits)
    except ClientGone:
        raise
    except Resolver404:
        return render(PathNotFound(request.path_info))
    except Exception as error:  # noqa: BLE001 - as above
        return render(translate(error, request.request_id))
    if isinstance(response, HttpResponseNotAllowed):
        allowed = _allowed(response["Allow"].split(", "))
        if request.method == "OPTIONS":
            headers = {"Allow": ", ".join(allowed)}
            if "PATCH" in allowed:
                headers["Accept-Patch"] = ", ".join(PATCH_TYPES)
            return HttpResponse(status=204, headers=headers)
        return render(MethodNotAllowed(allowed))
    assert isinstance(response, HttpResponseBase)
    return response


async def _view(request: Request, match: ResolverMatch, limits: BodyLimits) -> HttpResponseBase:
    body = await request.receive_body(limits.size, limits.seconds or BODY_TIMEOUT)
    request._body = body  # noqa: SLF001 - where Django looks for a body that has been read
    response = match.func(request, *match.args, **match.kwargs)
    return response if isinstance(response, HttpResponseBase) else await response


def _allowed(methods: list[str]) -> list[str]:
    """The methods of a path: HEAD where it has GET, and OPTIONS always (RFC 9110, section 9.3.7)."""
    return sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())})


def _request(scope: Message) -> Request:
    try:
        return Request(scope, BytesIO())
    except UnicodeDecodeError:
        raise InvalidInput.of({"field": "query", "detail": "The query string is not UTF-8"}) from None


async def _read_body(method: str, headers: dict[bytes, bytes], receive: Receive, limit: int, timeout: float) -> bytes:
    """The whole body, refused as soon as it is known to be too large or too slow."""
    if method in _USUALLY_WITHOUT_BODY and b"content-length" not in headers and b"transfer-encoding" not in headers:
        return b""
    declared = headers.get(b"content-length", b"0").lstrip(b"0")
    if len(declared) > _LENGTH_DIGITS or (declared.isdigit() and int(declared) > limit):
        raise ContentTooLarge(limit)
    try:
        async with asyncio.timeout(timeout):
            message = await receive()
            body: bytes | bytearray = message.get("body", b"")
            if message.get("more_body", False):
                # It grows in place.
                body = bytearray(body)
            while message.get("more_body", False) and len(body) <= limit:
                message = await receive()
                body += message.get("body", b"")
    except TimeoutError:
        raise RequestTimedOut("body", timeout) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > limit:
        raise ContentTooLarge(limit)
    return bytes(body)


def _start(response: HttpResponse | StreamedResponse, fields: list[tuple[bytes, bytes]]) -> Message:
    """The beginning of an answer, with these headers in addition to its own."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    if response.status_code in (204, 304):
        headers = [header for header in headers if header[0] != b"Content-Type"]
    elif isinstance(response, HttpResponse) and "Content-Length" not in response.headers:
        headers.append((b"Content-Length", b"%d" % len(response.content)))
    headers += fields
    headers.append(POLICY_OF_PAGES if isinstance(response, Page) else POLICY)
    if "Cache-Control" not in response.headers:
        headers.append(NO_STORE)
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


def _nothing() -> None:
    """Ends no connection: there is none without a web server."""
