"""What the OpenAPI document says of each operation beyond its signature: headers, examples, problems, links.

`config/openapi.py` puts the document together, with the words of `todos/glossary.py`; clients are generated from it,
so names here are promises.
"""

from collections.abc import Mapping
from typing import Any

from todos.errors import (
    Conflict,
    ContentTooLarge,
    InternalError,
    InvalidInput,
    MalformedJson,
    PathNotFound,
    PreconditionFailed,
    Problem,
    RequestTimedOut,
    ServiceUnavailable,
    TaskNotFound,
    UnsupportedMediaType,
    UserNotFound,
    WriteOutcomeUnknown,
)
from todos.glossary import TASK_ID, USER_ID
from todos.queries import TaskQuery

type Json = dict[str, Any]

TASK: Json = {
    "id": TASK_ID,
    "user_id": USER_ID,
    "title": "Buy milk",
    "description": "Two litres",
    "status": "pending",
    "completed": False,
    "priority": "high",
    "due_date": "2030-12-31T17:00:00Z",
    "tags": ["errands"],
    "created_at": "2026-11-22T04:14:57.069274Z",
    "updated_at": "2026-11-22T04:14:57.069274Z",
    "completed_at": None,
    "version": 1795320897069274,
}
_CURSOR = "5c8dR0YcC2isO9tQdeZLx5yIkrTc-Fk6AAZghUCDRiM"


def _link(operation: str, description: str, parameters: Mapping[str, str]) -> Json:
    return {"operationId": operation, "description": description, "parameters": parameters}


_OWNER = {"path.user_id": "$response.body#/user_id"}
_THIS = _OWNER | {"path.task_id": "$response.body#/id"}
_IF_CHANGED = _THIS | {"header.If-None-Match": "$response.header.ETag"}
_IF_UNCHANGED = _THIS | {"header.If-Match": "$response.header.ETag"}
_SAME_KEY = _OWNER | {"header.Idempotency-Key": "$request.header.Idempotency-Key"}
_NEXT_PAGE = {
    "path.user_id": "$request.path.user_id",
    "query.cursor": "$response.body#/next_cursor",
    **{f"query.{name}": f"$request.query.{name}" for name in TaskQuery.model_fields if name != "cursor"},
}
_FIRST_TASK = {"path.user_id": "$response.body#/items/0/user_id", "path.task_id": "$response.body#/items/0/id"}
LINKS: Mapping[str, Json] = {
    "GetTask": _link("get_task", "Get the task.", _THIS),
    "GetTaskIfChanged": _link("get_task", "Get the task if it has changed.", _IF_CHANGED),
    "ReplaceTask": _link("replace_task", "Replace the task unless it has changed.", _IF_UNCHANGED),
    "ChangeTask": _link("change_task", "Change the task unless it has changed.", _IF_UNCHANGED),
    "DeleteTask": _link("delete_task", "Delete the task unless it has changed.", _IF_UNCHANGED),
    "ListTasks": _link("list_tasks", "Find it among the others.", _OWNER),
    "CountTasks": _link("get_task_summary", "Count it among the others.", _OWNER),
    "CreateAgain": _link("create_task", "Send it again, which changes nothing.", _SAME_KEY),
    "NextPage": _link("list_tasks", "The next page, with the same filters and sort.", _NEXT_PAGE),
    "FirstTask": _link("get_task", "Get the first task of the page.", _FIRST_TASK),
}
_FROM_TASK = ("GetTask", "GetTaskIfChanged", "ReplaceTask", "ChangeTask", "DeleteTask", "ListTasks", "CountTasks")

_EXAMPLES: tuple[Problem, ...] = (
    InvalidInput.of({"field": "title", "detail": "This is required"}),
    MalformedJson("Expecting value at line 1, column 1."),
    TaskNotFound(),
    UserNotFound(),
    PathNotFound(),
    RequestTimedOut("The body did not arrive within 10 seconds."),
    Conflict("This id, or the one that is made from this key, is taken; use another one."),
    PreconditionFailed('"1795320897069275"'),
    ContentTooLarge(65536),
    UnsupportedMediaType("text/plain"),
    InternalError("44b3317e87b4406f8a31f7b7267d4304"),
    ServiceUnavailable("The database cannot serve this request now.", 1),
    WriteOutcomeUnknown("The connection to the database was lost, so the change may have been made, or not.", 1),
)
_ANY: tuple[type[Problem], ...] = (InvalidInput, ContentTooLarge, RequestTimedOut, InternalError, ServiceUnavailable)
_BODY = (*_ANY, MalformedJson, UnsupportedMediaType, WriteOutcomeUnknown)


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-ID")}


def _answer(description: str, example: Any, *headers: str, links: tuple[str, ...] = ()) -> Json:
    answer: Json = {
        "description": description,
        "headers": _headers(*headers),
        "content": {"application/json": {"example": example}},
    }
    if links:
        answer["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in links}
    return answer


def _problems(kinds: tuple[type[Problem], ...]) -> dict[int, Json]:
    answers: dict[int, Json] = {}
    for problem in _EXAMPLES:
        if isinstance(problem, kinds):
            answer = answers.setdefault(
                problem.status,
                {
                    "description": "",
                    "headers": _headers(*problem.headers),
                    "content": {
                        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
                    },
                },
            )
            answer["description"] += f"{' ' * bool(answer['description'])}{problem.title}."
            answer["content"]["application/problem+json"]["examples"][problem.kind] = {
                "summary": problem.title,
                "value": problem.document,
            }
    return answers


def _operation(
    name: str, summary: str, answers: dict[int, Json], problems: tuple[type[Problem], ...], body: Json | None = None
) -> Json:
    """Arguments for the methods of a Ninja router."""
    extra: Json = {"responses": answers | _problems(problems)}
    if body:
        extra["requestBody"] = {"content": {"application/json": {"example": body}}}
    return {"operation_id": name, "summary": summary, "openapi_extra": extra}


LIST_TASKS = _operation(
    "list_tasks",
    "List tasks",
    {
        200: _answer(
            "A page of tasks. `next_cursor` is null on the last one.",
            {"items": [TASK], "next_cursor": _CURSOR},
            "Link",
            links=("NextPage", "FirstTask"),
        )
    },
    (*_ANY, PathNotFound),
)
CREATE_TASK = _operation(
    "create_task",
    "Create a task",
    {
        201: _answer("The new task.", TASK, "Location", "ETag", links=(*_FROM_TASK, "CreateAgain")),
        200: _answer(
            "The task is there already, from an earlier request with the same key or id; this is how it is now.",
            TASK, "Location", "ETag", "Idempotency-Replayed", links=_FROM_TASK,
        ),
    },
    (*_BODY, UserNotFound, Conflict),
    {"title": "Buy milk", "description": "Two litres", "priority": "high", "tags": ["errands"]},
)  # fmt: skip
GET_TASK_SUMMARY = _operation(
    "get_task_summary",
    "Count tasks",
    {
        200: _answer(
            "The counts. `tags` has every tag that occurs; `overdue` are pending tasks whose due date has passed.",
            {
                "total": 3,
                "status": {"pending": 2, "completed": 1},
                "priority": {"low": 0, "medium": 1, "high": 2},
                "tags": {"errands": 2, "home": 1},
                "overdue": 1,
            },
        )
    },
    (*_ANY, PathNotFound),
)
GET_TASK = _operation(
    "get_task",
    "Get a task",
    {
        200: _answer("The task.", TASK, "ETag", "Cache-Control", links=_FROM_TASK),
        304: {"description": "The task is as you know it.", "headers": _headers("ETag", "Cache-Control")},
    },
    (*_ANY, TaskNotFound),
)
REPLACE_TASK = _operation(
    "replace_task",
    "Replace a task",
    {200: _answer("The task as it is now.", TASK, "ETag", links=_FROM_TASK)},
    (*_BODY, TaskNotFound, PreconditionFailed),
    {"title": "Buy milk", "description": "Two litres", "status": "pending", "priority": "high", "tags": ["errands"]},
)
CHANGE_TASK = _operation(
    "change_task",
    "Change a task",
    {200: _answer("The task as it is now.", TASK, "ETag", links=_FROM_TASK)},
    (*_BODY, TaskNotFound, PreconditionFailed),
    {"status": "completed"},
)
DELETE_TASK = _operation(
    "delete_task",
    "Delete a task",
    {200: _answer("The task as it was.", TASK, links=("GetTask", "ListTasks", "CountTasks"))},
    (*_ANY, TaskNotFound, PreconditionFailed, WriteOutcomeUnknown),
)


def _health(state: str, database: str, migration: str, status: int, message: str) -> Json:
    data = {"status": state, "database": database, "migration": migration}
    return _answer(message, {"status_code": status, "message": message, "data": data})


GET_HEALTH = _operation(
    "get_health",
    "Whether the service can work",
    {
        200: _health("healthy", "connected", "up-to-date", 200, "The service is healthy."),
        503: _health("unhealthy", "disconnected", "unknown", 503, "The database cannot be reached."),
    },
    (ContentTooLarge, RequestTimedOut, InternalError),
)
GET_LIVENESS = _operation(
    "get_liveness",
    "Whether the process answers",
    {200: _answer("It does.", {"status": "alive"})},
    (ContentTooLarge, RequestTimedOut, InternalError),
)
