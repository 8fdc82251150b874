"""The command `manage.py export_openapi`."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from ninja.openapi.schema import OpenAPISchema

from tests.support.servers import command
from todos.contract import PROBLEMS
from web import openapi
from web.api import api
from web.problems import MalformedRequest

NO_DATABASE = "postgresql://nowhere/todo"

type Document = dict[str, Any]


def without_schema_description(document: Document) -> None:
    del document["components"]["schemas"]["NewTask"]["description"]


def without_field_description(document: Document) -> None:
    del document["components"]["schemas"]["TaskOut"]["properties"]["due_date"]["description"]


def without_parameter_description(document: Document) -> None:
    for parameter in document["paths"]["/api/{user_id}/tasks"]["get"]["parameters"]:
        parameter.pop("description", None)


def without_operation(document: Document) -> None:
    del document["paths"]["/api/v1/live"]["get"][PROBLEMS]


def with_unknown_problem(document: Document) -> None:
    document["paths"]["/api/v1/live"]["get"][PROBLEMS] = (MalformedRequest,)


def with_unknown_header(document: Document) -> None:
    document["paths"]["/api/v1/live"]["get"]["responses"][200]["headers"]["X-New"] = {}


def with_unknown_path_parameter(document: Document) -> None:
    parameter = {"in": "path", "name": "list_id", "required": True, "schema": {"type": "string"}}
    document["paths"]["/api/v1/live"]["get"]["parameters"].append(parameter)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_schema_description, "the schema NewTask has no description: add one in todos/"),
        (without_field_description, "the field due_date of Task has no description: add one in todos/"),
        (without_parameter_description, "the parameter limit of GET /api/{user_id}/tasks has no description: add"),
        (without_operation, "GET /api/v1/live is not made with an operation of todos/contract.py"),
        (with_unknown_problem, "MalformedRequest has no example: add one to EXAMPLES in web/openapi.py"),
        (with_unknown_header, "X-New is neither in HEADERS nor in LINKS of todos/contract.py"),
        (with_unknown_path_parameter, "the path parameter list_id is not in PATH_PARAMETERS of todos/contract.py"),
    ],
    ids=["schema", "field", "parameter", "operation", "problem", "header", "path parameter"],
)
def test_it_says_what_is_missing_and_where_to_add_it(
    damage: Callable[[Document], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*arguments: Any) -> Document:
        document = deepcopy(OpenAPISchema(*arguments))
        damage(document)
        return document

    # A part of Ninja's schema is taken away, as if it had been left out in the code.
    monkeypatch.setattr(api, "_document", None)
    monkeypatch.setattr(openapi, "OpenAPISchema", damaged)
    outcome = command(NO_DATABASE, "export_openapi", "-")

    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: The document is not complete: ")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
