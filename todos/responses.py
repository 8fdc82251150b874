"""Rows to bytes. PostgreSQL's types and constraints vouch for them, so nothing validates them again."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from persistence.tasks import TaskRow
from todos.cursors import ListCursors
from todos.errors import TaskNotFound
from todos.etags import etag


def json_response(data: Any, status: int = 200) -> HttpResponse:
    """Times in UTC are written with a Z."""
    return HttpResponse(orjson.dumps(data, option=orjson.OPT_UTC_Z), status=status, content_type="application/json")


def change_response(row: TaskRow | None) -> HttpResponse:
    """The answer to a change, or to its repeat by the same key; None is a task that does not exist."""
    if row is None:
        raise TaskNotFound
    return task_response(row, replayed=row.pop("replayed", False))


def task_response(row: TaskRow, *, replayed: bool, status: int = 200) -> HttpResponse:
    response = json_response(row, status)
    response["ETag"] = etag(row["version"])
    if replayed:
        response["Idempotency-Replayed"] = "true"
    return response


def page_response(
    request: HttpRequest, path: str, cursors: ListCursors, rows: Sequence[TaskRow], limit: int
) -> HttpResponse:
    """A page of at most `limit` tasks; one row more than that tells that there is a next page."""
    items = rows[:limit]
    cursor = cursors.after(items[-1]) if len(rows) > limit else None
    response = json_response({"items": items, "next_cursor": cursor})
    if cursor is not None:
        response["Link"] = _next_link(path, request, cursor)
    return response


def _next_link(path: str, request: HttpRequest, cursor: str) -> str:
    """The value of a Link header (RFC 8288): the same request for the next page."""
    query = [(name, value) for name, values in request.GET.lists() if name != "cursor" for value in values]
    return f'<{path}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'


class StreamedResponse(HttpResponseBase):
    """An answer of which the first piece is there, and the rest is made while it is sent.

    `web/streaming.py` closes the generator, whatever happens.
    """

    streaming = True

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], content_type: str) -> None:
        super().__init__(content_type)
        self.first = first
        self.rest = rest
