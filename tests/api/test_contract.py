"""The contract, `docs/openapi.json`: complete, current, and fit for making clients of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jsonschema_rs
import pytest

from tests.support.contract import DOCUMENT, FILE, check
from tests.support.helpers import Json
from tests.support.servers import command
from todos.errors import TYPE_PREFIX, Problem
from todos.schemas import TaskOut
from web.api import api

OPERATIONS: dict[str, Json] = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}
LIST_PARAMETERS = """
    user_id limit cursor sort status completed priority tag due_before due_after overdue has_due_date
    created_before created_after updated_before updated_after q
"""
WRITES = ("create_task", "replace_task", "change_task")


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


def parameters(operation: str) -> dict[str, Json]:
    return {parameter["name"]: parameter for parameter in OPERATIONS[operation]["parameters"]}


def headers(operation: str, status: str) -> set[str]:
    return set(OPERATIONS[operation]["responses"][status]["headers"])


def test_it_is_what_the_code_says_now() -> None:
    assert json.loads(json.dumps(api.get_openapi_schema())) == DOCUMENT, "run `manage.py export_openapi`"


async def test_it_is_what_the_server_shows(client: httpx.AsyncClient) -> None:
    assert (await client.get("openapi.json")).json() == DOCUMENT


def test_the_command_writes_it(tmp_path: Path) -> None:
    written = command("postgresql://nowhere/todo", "export_openapi", str(tmp_path / "openapi.json"))
    printed = command("postgresql://nowhere/todo", "export_openapi", "-")

    assert (written.status, written.err) == (0, "")
    assert (tmp_path / "openapi.json").read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8") == printed.out


def test_the_command_says_where_it_cannot_write(tmp_path: Path) -> None:
    outcome = command("postgresql://nowhere/todo", "export_openapi", str(tmp_path / "no" / "openapi.json"))

    assert outcome.status == 1
    assert "Cannot write" in outcome.err


def test_it_has_every_operation_by_a_name_that_stays() -> None:
    assert {
        f"{method.upper()} {path}": operation["operationId"]
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    } == {
        "GET /api/{user_id}/tasks": "list_tasks",
        "POST /api/{user_id}/tasks": "create_task",
        "GET /api/{user_id}/tasks/summary": "get_task_summary",
        "GET /api/{user_id}/tasks/{task_id}": "get_task",
        "PUT /api/{user_id}/tasks/{task_id}": "replace_task",
        "PATCH /api/{user_id}/tasks/{task_id}": "change_task",
        "DELETE /api/{user_id}/tasks/{task_id}": "delete_task",
        "GET /api/v1/health": "get_health",
        "GET /api/v1/live": "get_liveness",
    }


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        ("list_tasks", LIST_PARAMETERS),
        ("create_task", "user_id Idempotency-Key"),
        ("get_task_summary", "user_id"),
        ("get_task", "user_id task_id If-None-Match"),
        ("replace_task", "user_id task_id If-Match"),
        ("change_task", "user_id task_id If-Match"),
        ("delete_task", "user_id task_id If-Match"),
        ("get_health", ""),
        ("get_liveness", ""),
    ],
)
def test_it_has_every_parameter_and_each_says_what_it_is(operation: str, names: str) -> None:
    described = parameters(operation)

    assert list(described) == names.split()
    for parameter in described.values():
        assert len(parameter["description"]) > 8
        assert parameter["required"] == (parameter["in"] == "path")
        assert {"type", "$ref"} & parameter["schema"].keys()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_and_each_of_its_answers_says_what_it_is(operation: str) -> None:
    described = OPERATIONS[operation]

    assert described["summary"]
    assert described["description"] or described["summary"]
    for status, answer in described["responses"].items():
        assert answer["description"], status
        assert "X-Request-ID" in answer["headers"], status
        for content_type, content in answer.get("content", {}).items():
            assert content["schema"]
            examples = (
                [content["example"]] if "example" in content else [e["value"] for e in content["examples"].values()]
            )
            assert examples, (status, content_type)


ANY = "400 408 413 500 503"


@pytest.mark.parametrize(
    ("operation", "statuses"),
    [
        ("list_tasks", f"200 404 {ANY}"),
        ("create_task", f"200 201 404 409 415 {ANY}"),
        ("get_task_summary", f"200 404 {ANY}"),
        ("get_task", f"200 304 404 {ANY}"),
        ("replace_task", f"200 404 412 415 {ANY}"),
        ("change_task", f"200 404 412 415 {ANY}"),
        ("delete_task", f"200 404 412 {ANY}"),
        ("get_health", "200 408 413 500 503"),
        ("get_liveness", "200 408 413 500"),
    ],
)
def test_it_has_every_status(operation: str, statuses: str) -> None:
    assert set(OPERATIONS[operation]["responses"]) == set(statuses.split())


def test_it_has_every_header_of_an_answer() -> None:
    assert headers("list_tasks", "200") == {"Link", "X-Request-ID"}
    assert headers("create_task", "201") == {"ETag", "Location", "X-Request-ID"}
    assert headers("create_task", "200") == {"ETag", "Location", "Idempotency-Replayed", "X-Request-ID"}
    assert headers("get_task", "200") == headers("get_task", "304") == {"ETag", "Cache-Control", "X-Request-ID"}
    for operation in ("replace_task", "change_task"):
        assert headers(operation, "200") == headers(operation, "412") == {"ETag", "X-Request-ID"}
    for operation in OPERATIONS.keys() - {"get_health", "get_liveness"}:
        assert "Retry-After" in headers(operation, "503")


def test_every_problem_has_an_example_at_its_status() -> None:
    shown = {
        (int(status), example["value"]["type"])
        for operation in OPERATIONS.values()
        for status, answer in operation["responses"].items()
        for content in answer.get("content", {}).values()
        for example in content.get("examples", {}).values()
    }

    expected = {(problem.status, TYPE_PREFIX + problem.kind) for problem in Problem.__subclasses__()}
    # A method that does not exist belongs to no operation.
    assert shown == {problem for problem in expected if problem[0] != 405}


def test_every_example_fits_its_schema() -> None:
    found = 0
    for path, node in nodes(DOCUMENT["paths"]):
        if "schema" not in node:
            continue
        schema = {"components": DOCUMENT["components"]} | node["schema"]
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        examples = [node["example"]] if "example" in node else []
        for example in [*examples, *(example["value"] for example in node.get("examples", {}).values())]:
            assert validator.is_valid(example), path
            found += 1

    assert found > 60


def test_every_schema_and_every_member_of_a_task_says_what_it_is() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert set(schemas) == set(SCHEMAS)
    assert all(schema["description"] for schema in schemas.values())
    for name in ("Task", "NewTask", "TaskReplacement", "TaskChanges", "Problem", "FieldError"):
        assert all(member["description"] for member in schemas[name]["properties"].values())


def test_it_tells_what_a_task_is_made_of_and_no_more() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert list(schemas["Task"]["properties"]) == list(TaskOut.model_fields) == schemas["Task"]["required"]
    assert set(schemas["NewTask"]["properties"]) - set(schemas["TaskReplacement"]["properties"]) == {"id"}
    assert schemas["NewTask"]["required"] == schemas["TaskReplacement"]["required"] == ["title"]
    assert "required" not in schemas["TaskChanges"]
    assert "password" not in str(DOCUMENT)
    for name in ("NewTask", "TaskReplacement", "TaskChanges"):
        assert schemas[name]["additionalProperties"] is False


def test_it_tells_the_limits() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    limit = parameters("list_tasks")["limit"]["schema"]
    new = schemas["NewTask"]["properties"]

    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 500, 100)
    assert (new["title"]["minLength"], new["title"]["maxLength"]) == (1, 200)
    assert new["description"]["anyOf"][0]["maxLength"] == 1000
    assert (new["tags"]["maxItems"], new["tags"]["items"]["maxLength"]) == (20, 10)
    assert schemas["Task"]["properties"]["version"]["format"] == "int64"
    assert schemas["Status"]["enum"] == ["pending", "completed"]
    assert schemas["Priority"]["enum"] == ["low", "medium", "high"]


@pytest.mark.parametrize(
    "body",
    [
        {"title": "x", "status": "pending", "completed": True},
        {"title": "x", "status": "completed", "completed": False},
        {"title": " \t\u2003"},
        {"title": "a\0b"},
        {"title": "x", "colour": 1},
        {"title": "x", "due_date": "tomorrow"},
    ],
)
async def test_it_refuses_what_the_server_refuses(client: httpx.AsyncClient, alice: UUID, body: Json) -> None:
    schema = {"components": DOCUMENT["components"], "$ref": "#/components/schemas/NewTask"}

    assert not jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(body)
    assert (await client.post(f"{alice}/tasks", json=body)).status_code == 400


def test_nothing_in_it_hinders_a_generator_of_clients() -> None:
    named = {tuple(schema["enum"]) for schema in DOCUMENT["components"]["schemas"].values() if "enum" in schema}
    for path, node in nodes(DOCUMENT):
        # A title becomes the name of a type.
        assert not isinstance(node.get("title"), str) or path == "/info", path
        # An enum without a name becomes a new type wherever it stands.
        if "enum" in node and path.count("/") > 4:
            assert tuple(node["enum"]) not in named, path
        assert "allOf" not in node, path
    for operation in OPERATIONS.values():
        for parameter in operation["parameters"]:
            assert "anyOf" not in parameter["schema"]
            # What is filled in by a page to try the API out would be sent.
            assert parameter["in"] == "path" or "example" not in parameter
    for name in WRITES:
        [content] = OPERATIONS[name]["requestBody"]["content"].values()
        reference = content["schema"]["$ref"].rpartition("/")[2]
        for member in DOCUMENT["components"]["schemas"][reference]["properties"].values():
            # Some take a member with a default for one that is always sent.
            assert "default" not in member


def test_every_reference_and_every_link_leads_somewhere() -> None:
    for path, node in nodes(DOCUMENT):
        if "$ref" in node:
            target: Any = DOCUMENT
            for step in node["$ref"].removeprefix("#/").split("/"):
                assert step in target, path
                target = target[step]
    for link in DOCUMENT["components"]["links"].values():
        places = {f"{p['in']}.{p['name']}" for p in OPERATIONS[link["operationId"]]["parameters"]}
        assert set(link["parameters"]) <= places


def test_it_speaks_to_strangers() -> None:
    described = [node["description"] for _, node in nodes(DOCUMENT) if isinstance(node.get("description"), str)]

    assert len(described) > 100
    for text in described:
        assert not re.search(r"\bD\d+\b|\bS\d-|persistence|pydantic|TaskOut", text), text


def _answer(method: str, path: str, status: int, body: Any, **answer_headers: str) -> httpx.Response:
    given = {"X-Request-ID": "x", "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in answer_headers.items()
    }
    return httpx.Response(status, json=body, headers=given, request=httpx.Request(method, f"http://test/api/{path}"))


TASK: Json = OPERATIONS["get_task"]["responses"]["200"]["content"]["application/json"]["example"]
GOOD = {"ETag": '"1"', "Cache_Control": "private, no-cache"}


def test_a_good_answer_passes_the_check_that_all_tests_make() -> None:
    check(_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK, **GOOD))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 202, TASK, **GOOD), "is no answer of get_task"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK, ETag='"1"'), "has no Cache-Control"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK, **GOOD | {"ETag": 'W/"1"'}), "does not match"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK, **GOOD, Content_Type="text/html"), "content type"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK | {"password": ""}, **GOOD), "password"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK | {"status": "done"}, **GOOD), "done"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 200, TASK | {"created_at": "now"}, **GOOD), "date-time"),
        (_answer("GET", f"{uuid4()}/tasks/{uuid4()}", 304, TASK, **GOOD), "has a body"),
        (_answer("GET", f"{uuid4()}/tasks", 200, {"items": [{}], "next_cursor": None}), "required property"),
        (_answer("GET", f"{uuid4()}/tasks/summary", 200, {}), "required property"),
        (_answer("GET", "v1/health", 429, {}), "is no answer of get_health"),
    ],
)
def test_the_check_that_all_tests_make_notices(answer: httpx.Response, complaint: str) -> None:
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError), match=complaint):
        check(answer)
