"""The check that every client of the tests makes of each answer (`tests/support/contract.py`) notices what is wrong."""

from typing import Any
from uuid import uuid4

import httpx
import jsonschema_rs
import pytest

from tests.support.contract import EXAMPLE, check

TASKS = f"{uuid4()}/tasks"
TASK = f"{TASKS}/{uuid4()}"
GOOD = {"ETag": '"1"', "Cache-Control": "private, no-cache"}


def _answer(path: str, status: int, body: Any, headers: dict[str, str]) -> httpx.Response:
    given = {"X-Request-ID": "x", "Content-Type": "application/json"} | headers
    return httpx.Response(status, json=body, headers=given, request=httpx.Request("GET", f"http://test/api/{path}"))


def test_a_good_answer_passes() -> None:
    check(_answer(TASK, 200, EXAMPLE, GOOD))


def test_a_bad_answer_is_noticed() -> None:
    for path, status, body, headers, complaint in (
        (TASK, 202, EXAMPLE, GOOD, "is not an answer of get_task"),
        (TASK, 200, EXAMPLE, {"ETag": '"1"'}, "has no Cache-Control"),
        (TASK, 200, EXAMPLE, GOOD | {"ETag": 'W/"1"'}, "does not match"),
        (TASK, 200, EXAMPLE, GOOD | {"Content-Type": "text/html"}, "content type"),
        (TASK, 200, EXAMPLE | {"password": ""}, GOOD, "password"),
        (TASK, 200, EXAMPLE | {"status": "done"}, GOOD, "done"),
        (TASK, 200, EXAMPLE | {"created_at": "now"}, GOOD, "date-time"),
        (TASK, 304, EXAMPLE, GOOD, "has a body"),
        (TASKS, 200, {"items": [{}], "next_cursor": None}, {}, "required property"),
        (f"{TASKS}/summary", 200, {}, {}, "required property"),
        ("v1/health", 429, {}, {}, "is not an answer of get_health"),
    ):
        with pytest.raises((AssertionError, jsonschema_rs.ValidationError), match=complaint):
            check(_answer(path, status, body, headers))
