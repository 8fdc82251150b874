"""The OpenAPI document: what Ninja reads from the endpoints, completed and cleaned for generators of clients."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, override

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema
from ninja.types import DictStrAny
from pydantic import TypeAdapter

from persistence.postgres.errors import SchemaMismatch
from todos import contract
from todos.contract import LINKS, PATH_PARAMETERS, references
from todos.errors import (
    AccountErased,
    ChangesGone,
    InvalidInput,
    NotInTrash,
    PreconditionFailed,
    Problem,
    SignInOff,
    TaskDeleted,
    TaskNotFound,
    TooManyTasks,
    UserNotFound,
)
from todos.etags import etag
from todos.queries import ChangeQuery, PageQuery, TaskQuery
from todos.schemas import ProblemOut
from todos.transfers import ExportQuery, ImportQuery
from web import access, request_ids
from web.handler import BODY_TIMEOUT
from web.problems import (
    ContentTooLarge,
    InternalError,
    MalformedJson,
    OtherUser,
    PathNotFound,
    RequestTimedOut,
    SchemaMismatched,
    ServiceUnavailable,
    TokenMissing,
    TokenRefused,
    TooManyRequests,
    UnsupportedMediaType,
    WriteOutcomeUnknown,
)

# The contract has the version of the package.
VERSION: str = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]["version"]
DESCRIPTION = """\
Tasks of many users.

- **Errors** are problem documents (RFC 9457): decide by `type`, show `detail`.
- **Bodies** are strict JSON (RFC 8259) in UTF-8. Unknown members are refused, and so are unknown query parameters of \
tasks.
- **OPTIONS** and a 405 name the methods of a path in `Allow`.
- **X-Request-ID**: send your own and find it in the answer and in the server's log (of equal lines only the first is \
written).
- **Sign-in**: send `Authorization: Bearer <token>`, a JWT of the issuer that this server trusts, and `me` in place of \
the user's id. 401 means to get a new token or to sign in again; 503 does not. A server may be set up to ask for no \
tokens.
"""
INFO = {"contact": {"name": "The operator of this service"}, "license": {"name": "MIT", "identifier": "MIT"}}
TAGS = [
    {"name": "tasks", "description": "The tasks of one user. Those of other users cannot be seen or reached."},
    {"name": "trash", "description": "The deleted tasks of one user, until they are erased."},
    {"name": "account", "description": "The user whom the token names."},
    {"name": "health", "description": "For operators of the service."},
]
HEADERS: Mapping[str, Any] = {
    "X-Request-ID": {
        "description": "The id of the request, also in the server's log: the one you sent, or one that was made up.",
        "required": True,
        "schema": {"type": "string", "pattern": request_ids.PATTERN},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token, or that one is needed (RFC 6750).",
        "required": True,
        "schema": {"type": "string", "pattern": '^Bearer( error="invalid_token", error_description="[^"]+")?$'},
    },
    "Accept": {
        "description": "The content types that may be sent.",
        "required": True,
        "schema": {"type": "string"},
    },
    **contract.HEADERS,
}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the issuer that the server trusts, without the word `Bearer` before it.",
    }
}
EXAMPLES: tuple[Problem, ...] = (
    InvalidInput.of({"field": "title", "detail": "This is required"}),
    MalformedJson("Expecting value at line 1, column 1."),
    TokenMissing(),
    TokenRefused("The token has expired."),
    OtherUser(),
    AccountErased(),
    TaskNotFound(),
    NotInTrash(),
    UserNotFound(),
    PathNotFound(),
    SignInOff(),
    RequestTimedOut("body", BODY_TIMEOUT),
    TaskDeleted(),
    ChangesGone(),
    PreconditionFailed(etag(contract.TASK["version"] + 1)),
    ContentTooLarge(65536),
    UnsupportedMediaType("text/plain"),
    TooManyRequests(1),
    TooManyTasks(10_000),
    InternalError("44b3317e87b4406f8a31f7b7267d4304"),
    ServiceUnavailable("The database cannot serve this request now."),
    SchemaMismatched("The database is not migrated to what the service needs.", SchemaMismatch.retry_after),
    WriteOutcomeUnknown("The connection to the database was lost, so the change may have been made, or not."),
)
"""One of each kind, in the order in which the document names them."""


class TodoAPI(NinjaAPI):
    """A Ninja API with our document, which is made once: that takes long enough to hold up every other request.

    There is one prefix, so the first one asked for is the one.
    """

    _document: OpenAPISchema | None = None
    _nothing = HttpResponse()

    @override
    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        """The response that Ninja makes for each request, for endpoints that ask for one to add headers to.

        None here asks for it, so it need not be made again.
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
    # Their members are parameters, each for itself.
    for query in (PageQuery, ChangeQuery, ExportQuery, ImportQuery, TaskQuery):
        del schemas[query.__name__]
    enums = {tuple(schema["enum"]): name for name, schema in schemas.items() if "enum" in schema}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if contract.PROBLEMS not in operation:
                raise TypeError(f"{method.upper()} {path} is not made with an operation of todos/contract.py")
            for parameter in operation["parameters"]:
                _complete_parameter(parameter)
                place = f"the parameter {parameter['name']} of {method.upper()} {path}"
                _insist_on_description(place, parameter, "todos/queries.py or todos/headers.py")
            for content in (bodies := operation.get("requestBody", {}).get("content", {})).values():
                content.setdefault("schema", bodies["application/json"]["schema"])
            needs_token = path.lstrip("/") not in access.PUBLIC
            operation["security"] = [{"bearer": []}] if needs_token else []
            problems = tuple(_problems_of(path, method, operation, needs_token=needs_token))
            _complete_answers(operation, problems)
    for operations in document["paths"].values():
        if "get" in operations:
            operations["head"] = _head(operations["get"])
    document["info"] |= INFO
    document |= {
        "paths": _tidied(document["paths"], enums),
        "components": {
            "schemas": _complete_schemas(schemas, enums),
            "headers": HEADERS,
            "links": LINKS,
            "securitySchemes": SECURITY_SCHEMES,
        },
        "tags": TAGS,
        "servers": [{"url": "/"}],
        "security": [],
    }
    return document


def _head(get: Mapping[str, Any]) -> dict[str, Any]:
    """The operation of HEAD beside that of GET (RFC 9110, section 9.3.2)."""
    answers = {
        status: {name: value for name, value in answer.items() if name in ("description", "headers")}
        for status, answer in get["responses"].items()
    }
    names = {"operationId": f"{get['operationId']}_head", "summary": f"{get['summary']}: the headers alone"}
    return {**get, **names, "description": "Answers as GET does, without the body.", "responses": answers}


def _problems_of(path: str, method: str, operation: Mapping[str, Any], *, needs_token: bool) -> Iterator[type[Problem]]:
    """The problems that an operation can answer with: its own, and those that follow from what it is."""
    yield from (ContentTooLarge, RequestTimedOut, InternalError)
    own = operation[contract.PROBLEMS]
    yield from own
    if needs_token:
        yield from (TokenMissing, TokenRefused, SignInOff, InvalidInput, TooManyRequests)
        yield from (ServiceUnavailable, SchemaMismatched)
        if method != "get":
            yield WriteOutcomeUnknown
    if "{user_id}" in path:
        yield OtherUser
        if not any(problem.status == PathNotFound.status for problem in own):
            yield PathNotFound
    if "requestBody" in operation:
        yield from (MalformedJson, UnsupportedMediaType)


def _complete_answers(operation: dict[str, Any], problems: tuple[type[Problem], ...]) -> None:
    del operation[contract.PROBLEMS]
    answers: dict[int, Any] = operation["responses"]
    if bare := [problem.__name__ for problem in problems if problem not in map(type, EXAMPLES)]:
        raise TypeError(f"{', '.join(bare)} has no example: add one to EXAMPLES in web/openapi.py")
    for problem in EXAMPLES:
        if type(problem) in problems:
            schema: Any = {"$ref": "#/components/schemas/Problem", "properties": {"type": {"enum": []}}}
            answer = answers.setdefault(
                problem.status,
                {
                    "description": "",
                    "headers": references("headers", *problem.headers),
                    "content": {"application/problem+json": {"schema": schema, "examples": {}}},
                },
            )
            answer["description"] += f"{' ' * bool(answer['description'])}{problem.title}."
            content = answer["content"]["application/problem+json"]
            content["examples"][problem.kind] = {"summary": problem.title, "value": problem.document}
            content["schema"]["properties"]["type"]["enum"].append(problem.document["type"])
    for answer in answers.values():
        answer["headers"] |= references("headers", "X-Request-ID")
        if unknown := (answer["headers"].keys() - HEADERS.keys()) | (answer.get("links", {}).keys() - LINKS.keys()):
            raise TypeError(f"{', '.join(unknown)} is neither in HEADERS nor in LINKS of todos/contract.py")
    operation["responses"] = {str(status): answers[status] for status in sorted(answers)}


def _complete_schemas(schemas: Mapping[str, Any], enums: Mapping[tuple[Any, ...], str]) -> dict[str, Any]:
    """The schemas by their public names, in alphabetical order."""
    complete = {_public(name): _tidied(schemas[name], enums, top=True) for name in sorted(schemas, key=_public)}
    if len(complete) < len(schemas):
        raise TypeError(f"two schemas of {', '.join(schemas)} have one public name")
    for name, schema in complete.items():
        _insist_on_description(f"the schema {name}", schema)
        for field, value in schema.get("properties", {}).items():
            if name.startswith("Batch") or name in ("Task", "NewTask", "TaskReplacement", "TaskChanges"):
                _insist_on_description(f"the field {field} of {name}", value)
            # Generators take a member with a default for one that is always there.
            if isinstance(default := value.pop("default", None), str):
                value["description"] += f" `{default}` when left out."
            # The examples of whole tasks are made of these.
            value.pop("examples", None)
    return complete


def _insist_on_description(
    place: str, schema: Mapping[str, Any], files: str = "todos/schemas.py or todos/types.py"
) -> None:
    if not schema.get("description"):
        raise TypeError(f"{place} has no description: add one in {files}")


def _complete_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    schema.pop("description", None)
    if parameter["in"] == "path":
        if parameter["name"] not in PATH_PARAMETERS:
            raise TypeError(f"the path parameter {parameter['name']} is not in PATH_PARAMETERS of todos/contract.py")
        parameter["description"], parameter["example"] = PATH_PARAMETERS[parameter["name"]]
    if "anyOf" in schema:
        # A parameter that is not sent is absent, never null.
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
    """A schema as clients know it: `Out` only keeps ours apart from tables."""
    return name.removesuffix("Out")
