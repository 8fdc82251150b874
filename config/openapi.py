"""The OpenAPI document: what Ninja reads from the endpoints, completed and cleaned for those who make clients of it."""

from collections.abc import Mapping
from typing import Any, override

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema
from ninja.types import DictStrAny
from pydantic import TypeAdapter

from todos.contract import LINKS
from todos.glossary import FIELDS, HEADERS, PATH_PARAMETERS, SCHEMAS, SENT_FIELDS
from todos.schemas import ProblemOut

DESCRIPTION = """\
Tasks of many users.

- **Errors** are problem documents (RFC 9457): decide by `type`, show `detail`.
- **Bodies** are strict JSON (RFC 8259) in UTF-8 with `Content-Type: application/json`; PATCH takes \
`application/merge-patch+json` as well. Unknown members are refused, and so are unknown query parameters of tasks.
- **HEAD** answers as GET does, without the body. **OPTIONS** and a 405 name the methods of a path in `Allow`.
- **X-Request-ID**: send your own and find it in the server's log and in the answer.
- There is no sign-in yet: whoever knows a user's id can read and change that user's tasks.
"""
TAGS = [
    {"name": "tasks", "description": "The tasks of one user. Nobody else's can be seen or reached."},
    {"name": "health", "description": "For whoever runs the service."},
]

_BODIES = ("NewTask", "TaskReplacement", "TaskChanges")


class TodoAPI(NinjaAPI):
    """A Ninja API with our document, which is made once: that takes long enough to hold up everybody else.

    There is one prefix, so the first one asked for is the one.
    """

    _document: OpenAPISchema | None = None
    _nothing = HttpResponse()

    @override
    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        """What Ninja hands to endpoints that ask for a response to add headers to, and makes for all of them.

        None here asks, and the one that nobody looks at need not be made again.
        """
        return self._nothing

    @override
    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: DictStrAny | None = None
    ) -> OpenAPISchema:
        if self._document is None:
            self._document = _complete(OpenAPISchema(self, path_prefix or self.get_root_path(path_params or {})))
        return self._document


def _complete(document: OpenAPISchema) -> OpenAPISchema:
    schemas = document["components"]["schemas"] | _problem_schemas()
    # Its members are parameters, each for itself.
    del schemas["TaskQuery"]
    enums = {tuple(schema["enum"]): name for name, schema in schemas.items() if "enum" in schema}
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation["parameters"]:
                _complete_parameter(parameter)
            answers = operation["responses"]
            operation["responses"] = {str(status): answers[status] for status in sorted(answers)}
    document |= {
        "paths": _tidied(document["paths"], enums),
        "components": {"schemas": _complete_schemas(schemas, enums), "headers": HEADERS, "links": LINKS},
        "tags": TAGS,
        "servers": [{"url": "/"}],
    }
    return document


def _complete_schemas(schemas: Mapping[str, Any], enums: Mapping[tuple[Any, ...], str]) -> dict[str, Any]:
    """By their public names, in alphabetical order, described for strangers."""
    complete = {_public(name): _tidied(schemas[name], enums, top=True) for name in sorted(schemas, key=_public)}
    assert len(complete) == len(schemas), "two schemas have one public name"
    for name, schema in complete.items():
        schema["description"] = SCHEMAS[name]
    for name in ("Task", *_BODIES):
        for field, schema in complete[name]["properties"].items():
            schema["description"] = (SENT_FIELDS if name in _BODIES else {}).get(field) or FIELDS[field]
            # Generators take a member with a default for one that is always there; its description names the default.
            schema.pop("default", None)
    return complete


def _complete_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    schema.pop("description", None)
    if parameter["in"] == "path":
        parameter["description"], parameter["example"] = PATH_PARAMETERS[parameter["name"]]
    if "anyOf" in schema:
        # What is not sent is absent, never null.
        [given] = [choice for choice in schema.pop("anyOf") if choice != {"type": "null"}]
        schema |= given
    if not schema.get("default"):
        # None and [] stand for what was not sent.
        schema.pop("default", None)


def _problem_schemas() -> dict[str, Any]:
    schema = TypeAdapter(ProblemOut).json_schema(ref_template=REF_TEMPLATE)
    return {**schema.pop("$defs"), "ProblemOut": schema}


def _tidied(node: Any, enums: Mapping[tuple[Any, ...], str], *, top: bool = False) -> Any:
    """Every enum by its name, and without pydantic's titles: both become names of types in clients."""
    if isinstance(node, list):
        return [_tidied(item, enums) for item in node]
    if not isinstance(node, dict):
        return _public(node) if isinstance(node, str) and node.startswith("#/components/schemas/") else node
    tidy = {
        key: value if key in ("example", "examples") else _tidied(value, enums)
        for key, value in node.items()
        if key != "title" or not isinstance(value, str)
    }
    if len(tidy.get("allOf", ())) == 1:
        tidy |= tidy.pop("allOf")[0]
    if not top and (name := enums.get(tuple(tidy.get("enum", ())))):
        del tidy["enum"], tidy["type"]
        tidy["$ref"] = _public(REF_TEMPLATE.format(model=name))
    return tidy


def _public(name: str) -> str:
    """A schema as clients know it: `Out` and `Name` only keep ours apart from tables and enums."""
    return name.removesuffix("Out").removesuffix("Name")
