"""Holds an answer against the committed contract, `docs/openapi.json`: its status, type, headers and body.

Every client of the tests calls `check` for each answer, so the whole suite proves that the contract is true. Tests that
are about every field of a task take the fields from here, so that a new field needs no edit in them.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import jsonschema_rs

type Json = dict[str, Any]

FILE = Path(__file__).parents[2] / "docs/openapi.json"
DOCUMENT: Json = json.loads(FILE.read_text(encoding="utf-8"))
SCHEMAS: dict[str, Json] = DOCUMENT["components"]["schemas"]


@dataclass(frozen=True)
class Operation:
    """One operation; `described` is its part of the document."""

    method: str
    path: str
    described: Json

    @property
    def parameters(self) -> dict[str, Json]:
        return {parameter["name"]: parameter for parameter in self.described["parameters"]}

    @property
    def is_of_a_user(self) -> bool:
        return "{user_id}" in self.path

    @property
    def is_of_a_task(self) -> bool:
        return "{task_id}" in self.path

    @property
    def is_of_the_trash(self) -> bool:
        return "/trash" in self.path

    @property
    def body_example(self) -> Json | None:
        body = self.described.get("requestBody")
        example: Json | None = body and body["content"]["application/json"]["example"]
        return example


OPERATIONS = {
    described["operationId"]: Operation(method.upper(), path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
    if method != "head"
}
"""All but those of HEAD, which follow from those of GET."""

EXAMPLE: Json = OPERATIONS["get_task"].described["responses"]["200"]["content"]["application/json"]["example"]
"""A task, as the contract shows one."""
FIELDS: dict[str, Json] = SCHEMAS["NewTask"]["properties"]
"""The schemas of what a client may send of a task; `id` is only for a new one."""
NULLABLE = tuple(name for name, schema in FIELDS.items() if {"type": "null"} in schema.get("anyOf", ()))
READ_ONLY = tuple(name for name in SCHEMAS["Task"]["properties"] if name not in FIELDS)

# A literal segment stands before a parameter in its place, as in the document: /summary before /{task_id}.
# A path with a word in a place counts before one that has a parameter there.
_PATHS = {
    re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): DOCUMENT["paths"][path]
    for path in sorted(DOCUMENT["paths"], key=lambda path: path.count("{"))
}


def check(response: httpx.Response) -> None:
    """Fails when an operation of the contract gave an answer that the contract does not have."""
    request = response.request
    path = unquote(request.url.raw_path.partition(b"?")[0].decode("ascii"), errors="replace")
    operations: Json = next((found for pattern, found in _PATHS.items() if pattern.fullmatch(path)), {})
    operation = operations.get(request.method.lower())
    if operation is None:
        return
    where = f"{request.method} {path}: {response.status_code}"
    answer = operation["responses"].get(str(response.status_code))
    assert answer, f"{where} is not an answer of {operation['operationId']}"
    for name, header in answer.get("headers", {}).items():
        _check_header(where, name, _resolved(header), response.headers.get(name))
    content = answer.get("content", {})
    content_type = response.headers.get("Content-Type", "")
    assert content_type in content or not content, f"{where} has the content type {content_type!r}"
    if not content:
        assert response.content == b"", f"{where} has a body"
        return
    if content_type.endswith("json"):
        validator(content[content_type]["schema"]).validate(json.loads(response.content))


def _check_header(where: str, name: str, header: Json, value: str | None) -> None:
    if value is None:
        assert not header.get("required"), f"{where} has no {name}"
        return
    validator(header["schema"]).validate(int(value) if header["schema"]["type"] == "integer" else value)


def _resolved(header: Json) -> Json:
    reference = header.get("$ref")
    if reference is None:
        return header
    resolved: Json = DOCUMENT["components"]["headers"][reference.rpartition("/")[2]]
    return resolved


def closed(operations: Collection[str] = OPERATIONS) -> Json:
    """A copy of the contract whose schemas are closed: an answer has no other members than the contract names."""
    document: Json = json.loads(json.dumps(DOCUMENT))
    document["paths"] = {
        path: {method: each for method, each in methods.items() if each["operationId"] in operations}
        for path, methods in document["paths"].items()
    }
    for schema in document["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    return document


def validator(schema: Json) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema that may refer to the contract's own schemas."""
    return _validator(json.dumps(schema))


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    document = {"components": closed()["components"]} | json.loads(schema)
    return jsonschema_rs.Draft202012Validator(document, validate_formats=True)


async def check_async(response: httpx.Response) -> None:
    await response.aread()
    check(response)


def check_sync(response: httpx.Response) -> None:
    response.read()
    check(response)
