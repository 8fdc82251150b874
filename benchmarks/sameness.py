"""The check before all measurements that all contenders give the same answers."""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from benchmarks.operations import Operation, Request
from benchmarks.processes import Server

type Answer = tuple[int, Any]

_TIMES = ("due_date", "created_at", "updated_at", "completed_at")
_RECENT = timedelta(minutes=5)


class Differs(Exception):
    """Contenders answer differently, so that a comparison of their speed would mean nothing."""


def send(connection: http.client.HTTPConnection, request: Request) -> Answer:
    body = None if request.body is None else json.dumps(request.body)
    headers = request.headers | ({"Content-Type": "application/json"} if body else {})
    connection.request(request.method, request.path, body, headers)
    response = connection.getresponse()
    content = response.read()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, content.decode(errors="replace")


def check(
    servers: Mapping[str, Server], operation: Operation, requests: Sequence[Request], reset: Callable[[], None]
) -> None:
    """Sends the same requests to each server, each time after a reset, and raises `Differs` if answers differ."""
    answers = {}
    for name, server in servers.items():
        reset()
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            answers[name] = [answer for request in requests for answer in _ask(connection, request)]
    reset()
    first, expected = next(iter(answers.items()))
    for name, given in answers.items():
        for (request, *ours), (_, *theirs) in zip(expected, given, strict=True):
            if ours != theirs:
                raise Differs(f"{operation.title}, {request}:\n{first}: {ours}\n{name}: {theirs}")
        if any(status != operation.status for _, status, _ in given):
            raise Differs(f"{operation.title}, {name}: {given}")


def _ask(connection: http.client.HTTPConnection, request: Request) -> Iterator[tuple[Request, int, Any]]:
    """Yields the answer to the request, and the next page if the answer has one."""
    status, body = send(connection, request)
    yield request, status, normal(body)
    if isinstance(body, dict) and body.get("next_cursor"):
        status, body = send(connection, replace(request, path=f"{request.path}&cursor={body['next_cursor']}"))
        yield request, status, normal(body)


def normal(body: Any, now: datetime | None = None) -> Any:
    """Replaces what may differ: the form of a time, a time of now, the id of a new task, a cursor, and the trash."""
    now = now or datetime.now(UTC)
    if not isinstance(body, dict):
        return body
    if "items" in body:
        items = [normal(item, now) for item in body["items"]]
        return body | {"items": items, "next_cursor": body["next_cursor"] is not None}
    # Only this project has a trash.
    task = {name: value for name, value in body.items() if name != "deleted_at"}
    for name in _TIMES:
        if task.get(name) is not None:
            task[name] = _timestamp(task[name], now)
    if task.get("updated_at") == "now":
        task["version"] = type(task["version"]).__name__
    if task.get("created_at") == "now":
        task["id"] = type(UUID(task["id"])).__name__
    return task


def _timestamp(text: str, now: datetime) -> str:
    """Rounds to milliseconds, as Django's and JavaScript's JSON do."""
    time = datetime.fromisoformat(text)
    return "now" if abs(time - now) < _RECENT else time.astimezone(UTC).isoformat(timespec="milliseconds")
