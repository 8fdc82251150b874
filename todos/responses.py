"""Rows to bytes. PostgreSQL's types and constraints vouch for them, so nothing validates them again."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
from django.http import HttpResponse
from django.http.response import HttpResponseBase


def json_response(data: Any, status: int = 200) -> HttpResponse:
    """Times in UTC are written with a Z."""
    return HttpResponse(orjson.dumps(data, option=orjson.OPT_UTC_Z), status=status, content_type="application/json")


class StreamedResponse(HttpResponseBase):
    """An answer of which the first piece is there, and the rest is made while it is sent.

    `web/streaming.py` closes the generator, whatever happens.
    """

    streaming = True

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], content_type: str) -> None:
        super().__init__(content_type)
        self.first = first
        self.rest = rest
