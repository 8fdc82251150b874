"""The check that every client of the tests makes of each answer (`tests/support/contract.py`) notices what is wrong."""

from typing import Any
from uuid import uuid4

import httpx
import jsonschema_rs
import pytest

from tests.support.contract import EXAMPLE, check

TASKS = f"{uuid4()}/tasks"
TASK = f"{TASKS}/{uuid4()}"
HEADERS = {"ETag": '"1"', "Cache-Control": "private, no-cache"}


def _answer(path: str, status: int, body: Any, headers: dict[str, str]) -> httpx.Response:
    given = {"X-Request-ID": "x", "Content-Type": "application/json"} | headers
    return httpx.Response(status, json=body, headers=given, request=httpx.Request("GET", f"http://test/api/{path}"))


def test_a_good_answer_passes() -> None:
    check(_answer(TASK, 200, EXAMPLE, HEADERS))


@pytest.mark.parametrize(
    ("path", "status", "body", "headers", "complaint"),
    [
        (TASK, 202, EXAMPLE, HEADERS, "is not an answer of get_task"),
        (TASK, 200, EXAMPLE, {"ETag": '"1"'}, "has no Cache-Control"),
        (TASK, 200, EXAMPLE, HEADERS | {"ETag": 'W/"1"'}, "does not match"),
        (TASK, 200, EXAMPLE, HEADERS | {"Content-Type": "text/html"}, "content type"),
        (TASK, 200, EXAMPLE | {"password": ""}, HEADERS, "password"),
        (TASK, 200, EXAMPLE | {"status": "done"}, HEADERS, "done"),
        (TASK, 200, EXAMPLE | {"created_at": "now"}, HEADERS, "date-time"),
        (TASK, 304, EXAMPLE, HEADERS, "has a body"),
        (TASKS, 200, {"items": [{}], "next_cursor": None}, {}, "required property"),
        (f"{TASKS}/summary", 200, {}, {}, "required property"),
        ("v1/health", 429, {}, {}, "is not an answer of get_health"),
    ],
    ids=lambda part: part if isinstance(part, str) and " " in part else "",
)
def test_a_bad_answer_is_noticed(path: str, status: int, body: Any, headers: dict[str, str], complaint: str) -> None:
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError), match=complaint):
        check(_answer(path, status, body, headers))
