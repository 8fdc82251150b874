"""Holds an answer against the committed contract, `docs/openapi.json`: its status, type, headers and body.

Every client of the tests calls `check` for each answer it gets, so the whole suite proves that the contract is true.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import jsonschema_rs

FILE = Path(__file__).parents[2] / "docs/openapi.json"
DOCUMENT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))

# A literal segment stands before a parameter in its place, as in the document: /summary before /{task_id}.
_PATHS = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): operations for path, operations in DOCUMENT["paths"].items()}


def check(response: httpx.Response) -> None:
    """Fails when an operation of the contract gave an answer that the contract does not have."""
    request = response.request
    path = unquote(request.url.raw_path.partition(b"?")[0].decode("ascii"), errors="replace")
    operations: dict[str, Any] = next((found for pattern, found in _PATHS.items() if pattern.fullmatch(path)), {})
    # HEAD is what GET would answer, without the body (RFC 9110, section 9.3.2).
    operation = operations.get("get" if request.method == "HEAD" else request.method.lower())
    if operation is None:
        return
    where = f"{request.method} {path}: {response.status_code}"
    answer = operation["responses"].get(str(response.status_code))
    assert answer, f"{where} is no answer of {operation['operationId']}"
    for name, header in answer.get("headers", {}).items():
        _check_header(where, name, _resolved(header), response.headers.get(name))
    content = answer.get("content", {})
    content_type = response.headers.get("Content-Type", "")
    assert content_type in content or not content, f"{where} has the content type {content_type!r}"
    if request.method == "HEAD" or not content:
        assert response.content == b"", f"{where} has a body"
        return
    _validator(json.dumps(content[content_type]["schema"])).validate(json.loads(response.content))


def _check_header(where: str, name: str, header: dict[str, Any], value: str | None) -> None:
    if value is None:
        assert not header.get("required"), f"{where} has no {name}"
        return
    typed = int(value) if header["schema"]["type"] == "integer" else value
    _validator(json.dumps(header["schema"])).validate(typed)


def _resolved(header: dict[str, Any]) -> dict[str, Any]:
    reference = header.get("$ref")
    if reference is None:
        return header
    resolved: dict[str, Any] = DOCUMENT["components"]["headers"][reference.rpartition("/")[2]]
    return resolved


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """Of a schema that may refer to the contract's own, all of which are closed: an answer has no other members."""
    closed = json.loads(json.dumps(DOCUMENT["components"]["schemas"]))
    for component in closed.values():
        if component.get("type") == "object":
            component.setdefault("additionalProperties", False)
    document = {"components": {"schemas": closed}} | json.loads(schema)
    return jsonschema_rs.Draft202012Validator(document, validate_formats=True)


async def check_async(response: httpx.Response) -> None:
    await response.aread()
    check(response)


def check_sync(response: httpx.Response) -> None:
    response.read()
    check(response)
