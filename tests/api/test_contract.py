"""The contract, `docs/openapi.json`: complete, current, and fit for making clients of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.contract import DOCUMENT, FIELDS, FILE, OPERATIONS, SCHEMAS, Json, validator
from tests.support.helpers import Client, signed_in, subclasses
from tests.support.issuer import Issuer
from tests.support.servers import command
from todos.errors import TYPE_PREFIX, Problem
from todos.queries import TaskQuery
from todos.schemas import TaskOut
from web.api import api

ANY = "400 401 403 408 413 429 500 503"
DECLARED = {
    "list_tasks": ("GET /api/{user_id}/tasks", f"user_id {' '.join(TaskQuery.model_fields)}", f"200 404 {ANY}"),
    "create_task": ("POST /api/{user_id}/tasks", "user_id Idempotency-Key", f"200 201 404 409 415 {ANY}"),
    "write_batch": ("POST /api/{user_id}/tasks/batch", "user_id", f"200 404 415 {ANY}"),
    "get_task_summary": ("GET /api/{user_id}/tasks/summary", "user_id", f"200 404 {ANY}"),
    "get_task": ("GET /api/{user_id}/tasks/{task_id}", "user_id task_id If-None-Match", f"200 304 404 {ANY}"),
    "replace_task": (
        "PUT /api/{user_id}/tasks/{task_id}",
        "user_id task_id If-Match Idempotency-Key",
        f"200 404 412 415 {ANY}",
    ),
    "change_task": (
        "PATCH /api/{user_id}/tasks/{task_id}",
        "user_id task_id If-Match Idempotency-Key",
        f"200 404 412 415 {ANY}",
    ),
    "delete_task": (
        "DELETE /api/{user_id}/tasks/{task_id}",
        "user_id task_id If-Match Idempotency-Key",
        f"200 404 412 {ANY}",
    ),
    "list_changes": ("GET /api/{user_id}/tasks/changes", "user_id limit cursor", f"200 404 410 {ANY}"),
    "list_trash": ("GET /api/{user_id}/trash", "user_id limit cursor", f"200 404 {ANY}"),
    "empty_trash": ("DELETE /api/{user_id}/trash", "user_id", f"204 404 {ANY}"),
    "erase_task": ("DELETE /api/{user_id}/trash/{task_id}", "user_id task_id", f"204 404 {ANY}"),
    "restore_task": (
        "POST /api/{user_id}/trash/{task_id}/restore",
        "user_id task_id If-Match Idempotency-Key",
        f"200 404 412 {ANY}",
    ),
    "get_account": ("GET /api/v1/me", "", f"200 404 {ANY}"),
    "erase_account": ("DELETE /api/v1/me", "", f"204 404 {ANY}"),
    "get_health": ("GET /api/v1/health", "", "200 408 413 500 503"),
    "get_readiness": ("GET /api/v1/ready", "", "200 408 413 500 503"),
    "get_liveness": ("GET /api/v1/live", "", "200 408 413 500"),
}
"""The method, the path, the parameters and the statuses of the operations that clients rely on already."""


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every object in the document with its path, but for the insides of examples."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            if key not in ("example", "examples"):
                yield from nodes(value, f"{path}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from nodes(value, f"{path}/{number}")


def headers(operation: str, status: str) -> set[str]:
    return set(OPERATIONS[operation].described["responses"][status]["headers"])


def examples_in(content: Json) -> list[Any]:
    shown = [content["example"]] if "example" in content else []
    return [*shown, *(example["value"] for example in content.get("examples", {}).values())]


async def test_it_is_what_the_code_says_now_and_what_the_server_shows(client: Client) -> None:
    assert json.loads(json.dumps(api.get_openapi_schema())) == DOCUMENT, "run `manage.py export_openapi`"
    assert (await client.get("openapi.json")).json() == DOCUMENT


def test_the_command_writes_it_and_says_where_it_cannot(tmp_path: Path) -> None:
    written = command("postgresql://nowhere/todo", "export_openapi", str(tmp_path / "openapi.json"))
    printed = command("postgresql://nowhere/todo", "export_openapi", "-")
    failed = command("postgresql://nowhere/todo", "export_openapi", str(tmp_path / "no" / "openapi.json"))

    assert (written.status, written.err) == (0, "")
    assert (tmp_path / "openapi.json").read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8") == printed.out
    assert failed.status == 1
    assert "Cannot write" in failed.err


@pytest.mark.parametrize("name", sorted(DECLARED | OPERATIONS))
def test_it_has_every_operation_with_its_parameters_and_statuses_and_says_what_they_are(name: str) -> None:
    operation = OPERATIONS[name]

    if name in DECLARED:
        address, parameters, statuses = DECLARED[name]
        assert address == f"{operation.method} {operation.path}"
        assert list(operation.parameters) == parameters.split()
        assert set(operation.described["responses"]) == set(statuses.split())
    assert operation.described["summary"]
    for parameter in operation.parameters.values():
        assert len(parameter["description"]) > 8
        assert parameter["required"] == (parameter["in"] == "path")
        assert {"type", "$ref"} & parameter["schema"].keys()
    for status, answer in operation.described["responses"].items():
        assert answer["description"], status
        assert "X-Request-ID" in answer["headers"], status
        for content_type, content in answer.get("content", {}).items():
            assert examples_in(content), (status, content_type)


def test_it_has_every_header_of_an_answer() -> None:
    assert headers("list_tasks", "200") == {"Link", "X-Request-ID"}
    assert headers("create_task", "201") == {"ETag", "Location", "X-Request-ID"}
    assert headers("create_task", "200") == {"ETag", "Location", "Idempotency-Replayed", "X-Request-ID"}
    assert headers("get_task", "200") == headers("get_task", "304") == {"ETag", "Cache-Control", "X-Request-ID"}
    for name in ("replace_task", "change_task", "delete_task"):
        assert headers(name, "200") == {"ETag", "Idempotency-Replayed", "X-Request-ID"}
        assert headers(name, "412") == {"ETag", "X-Request-ID"}
    for name, operation in OPERATIONS.items():
        if operation.is_of_a_user:
            assert "Retry-After" in headers(name, "503")


def test_every_problem_has_an_example_at_its_status() -> None:
    shown = {
        (int(status), example["type"].removeprefix(TYPE_PREFIX))
        for operation in OPERATIONS.values()
        for status, answer in operation.described["responses"].items()
        for example in examples_in(answer.get("content", {}).get("application/problem+json", {}))
    }
    # The server answers requests that are not proper HTTP, a method that does not exist belongs to no operation, and no
    # operation has a conflict.
    elsewhere = {"malformed-request", "target-too-long", "head-too-large", "method-not-allowed", "conflict"}

    assert shown == {(each.status, each.kind) for each in subclasses(Problem) if each.kind not in elsewhere}


def test_every_answer_that_is_a_problem_says_of_which_types_it_can_be() -> None:
    problems = {
        (name, status): answer["content"]["application/problem+json"]
        for name, operation in OPERATIONS.items()
        for status, answer in operation.described["responses"].items()
        if "application/problem+json" in answer.get("content", {})
    }
    for place, content in problems.items():
        types = [example["type"] for example in examples_in(content)]
        assert content["schema"]["properties"]["type"]["enum"] == types, place

    not_found = validator(problems["get_task", "404"]["schema"])
    document = {"title": "x", "status": 404, "detail": "x"}
    assert not_found.is_valid(document | {"type": f"{TYPE_PREFIX}task-not-found"})
    assert not not_found.is_valid(document | {"type": f"{TYPE_PREFIX}user-not-found"})


@pytest.mark.parametrize("path", [path for path, methods in DOCUMENT["paths"].items() if "get" in methods])
async def test_head_stands_beside_get_without_bodies(guarded: Client, issuer: Issuer, task: Json, path: str) -> None:
    get, head = DOCUMENT["paths"][path]["get"], DOCUMENT["paths"][path]["head"]

    assert head["parameters"] == get["parameters"]
    assert {status: answer["headers"] for status, answer in head["responses"].items()} == {
        status: answer["headers"] for status, answer in get["responses"].items()
    }
    assert not any("content" in answer for answer in head["responses"].values())
    url = "http://test" + path.format(user_id=task["user_id"], task_id=task["id"])
    assert (await signed_in(guarded, issuer.token(task["user_id"])).head(url)).status_code == 200


def test_a_patch_may_be_sent_as_either_type_and_says_nothing_of_defaults() -> None:
    content = OPERATIONS["change_task"].described["requestBody"]["content"]

    assert list(content) == ["application/json", "application/merge-patch+json"]
    assert content["application/json"] == content["application/merge-patch+json"]
    for name, schema in SCHEMAS.items():
        if name in ("NewTask", "TaskReplacement", "BatchCreate", "BatchReplace"):
            assert "`pending` when left out" in schema["properties"]["status"]["description"]
            assert "`medium` when left out" in schema["properties"]["priority"]["description"]
        else:
            assert "left out." not in str(schema.get("properties"))


def test_it_says_who_runs_the_service_and_under_which_licence() -> None:
    assert DOCUMENT["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert DOCUMENT["info"]["contact"]["name"]


def test_every_example_fits_its_schema() -> None:
    shown = [(path, node) for path, node in nodes(DOCUMENT["paths"]) if "schema" in node and examples_in(node)]

    assert len(shown) > 50
    for path, node in shown:
        assert all(validator(node["schema"]).is_valid(example) for example in examples_in(node)), path


def test_it_tells_what_a_task_is_made_of_and_no_more() -> None:
    writes = [SCHEMAS[name] for name in ("NewTask", "TaskReplacement", "TaskChanges")]
    new, replacement, changes = writes

    assert list(SCHEMAS["Task"]["properties"]) == list(TaskOut.model_fields) == SCHEMAS["Task"]["required"]
    assert FIELDS.keys() - replacement["properties"].keys() == {"id"}
    assert replacement["properties"].keys() == changes["properties"].keys()
    assert new["required"] == replacement["required"] == ["title"]
    assert "required" not in changes
    assert all(schema["additionalProperties"] is False for schema in writes)
    assert "password" not in str(DOCUMENT)
    assert all(schema["description"] for schema in SCHEMAS.values())
    for schema in (SCHEMAS["Task"], *writes, SCHEMAS["Problem"], SCHEMAS["FieldError"]):
        assert all(member["description"] for member in schema["properties"].values())
        # Some generators take a member with a default for one that is always sent.
        assert not any("default" in member for member in schema["properties"].values())


def test_it_tells_the_limits() -> None:
    limit = OPERATIONS["list_tasks"].parameters["limit"]["schema"]

    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 500, 100)
    assert (FIELDS["title"]["minLength"], FIELDS["title"]["maxLength"]) == (1, 200)
    assert FIELDS["description"]["anyOf"][0]["maxLength"] == 1000
    assert (FIELDS["tags"]["maxItems"], FIELDS["tags"]["items"]["maxLength"]) == (20, 10)
    assert SCHEMAS["Task"]["properties"]["version"]["format"] == "int64"
    assert SCHEMAS["Status"]["enum"] == ["pending", "completed"]
    assert SCHEMAS["Priority"]["enum"] == ["low", "medium", "high"]


async def test_it_refuses_what_the_server_refuses(client: Client, alice: UUID) -> None:
    states = ({"status": "pending", "completed": True}, {"status": "completed", "completed": False})
    others: tuple[Json, ...] = ({"title": " \t\u2003"}, {"title": "a\0b"}, {"colour": 1}, {"due_date": "tomorrow"})
    for values in (*states, *others):
        assert not validator({"$ref": "#/components/schemas/NewTask"}).is_valid({"title": "x"} | values)
        assert (await client.post(f"{alice}/tasks", json={"title": "x"} | values)).status_code == 400


def test_nothing_in_it_hinders_a_generator_of_clients() -> None:
    named = {tuple(schema["enum"]) for schema in SCHEMAS.values() if "enum" in schema}
    for path, node in nodes(DOCUMENT):
        # A title becomes the name of a type.
        assert not isinstance(node.get("title"), str) or path == "/info", path
        # An enum without a name becomes a new type wherever it stands.
        if "enum" in node and path.count("/") > 4:
            assert tuple(node["enum"]) not in named, path
        assert "allOf" not in node, path
    for operation in OPERATIONS.values():
        for parameter in operation.parameters.values():
            assert "anyOf" not in parameter["schema"]
            # A page to try the API out fills the example in, and would send it.
            assert parameter["in"] == "path" or "example" not in parameter


def test_every_reference_and_every_link_leads_somewhere() -> None:
    for path, node in nodes(DOCUMENT):
        if "$ref" in node:
            target: Any = DOCUMENT
            for step in node["$ref"].removeprefix("#/").split("/"):
                assert step in target, path
                target = target[step]
    for link in DOCUMENT["components"]["links"].values():
        parameters = OPERATIONS[link["operationId"]].parameters.values()
        assert set(link["parameters"]) <= {f"{parameter['in']}.{parameter['name']}" for parameter in parameters}


def test_it_speaks_to_strangers() -> None:
    described = [node["description"] for _, node in nodes(DOCUMENT) if isinstance(node.get("description"), str)]

    assert len(described) > 100
    for text in described:
        assert not re.search(r"\bD\d+\b|\bS\d-|persistence|pydantic|TaskOut", text), text
