"""Rows to bytes. PostgreSQL's types and constraints vouch for them, so nothing validates them again."""

from typing import Any

import orjson
from django.http import HttpResponse


def json_response(data: Any, status: int = 200) -> HttpResponse:
    """Times in UTC are written with a Z."""
    return HttpResponse(orjson.dumps(data, option=orjson.OPT_UTC_Z), status=status, content_type="application/json")
