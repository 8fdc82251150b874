"""What the OpenAPI document says of each operation beyond its signature: headers, examples, problems, links.

`config/openapi.py` puts the document together; clients are generated from it, so names here are promises.
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
)
from todos.queries import TaskQuery

type Json = dict[str, Any]

IF_MATCH = (
    "The entity tag of the task as you know it, as it came in `ETag`, or several with commas between. If the task has "
    "another version now, nothing is done, and the answer is 412. `*` is any version. Without this header the last "
    "write wins."
)
IF_NONE_MATCH = "The entity tag of the task as you know it. If it is still current, the answer is 304 without a body."
IDEMPOTENCY_KEY = (
    "Any text of your own that is new for each new task, such as a UUID. Send the same one when you send the same "
    "request again: the task is created once, and as long as it is there, the answer to every repeat is 200 with the "
    "task as it is then, whatever the body. 1 to 255 visible characters of ASCII but the comma. Cannot be combined "
    "with `id` in the body."
)

USER_ID = "055fcdb6-2179-4226-9200-60ebedb11f2c"
TASK_ID = "ac3bdb50-75e6-4bc7-9c88-92b4dcf8593a"
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

PATH_PARAMETERS = {
    "user_id": ("The user whose tasks these are.", USER_ID),
    "task_id": ("The task.", TASK_ID),
}

FIELDS = {
    "id": "The task's id.",
    "user_id": "The owner.",
    "title": "What is to be done: 1 to 200 characters, not counting space around it, which is dropped.",
    "description": "More about it, at most 1000 characters, or null.",
    "status": "Whether it is done. `pending` when left out of a new or replaced task.",
    "completed": "Another way to say `status`; both may be sent if they agree.",
    "priority": "How urgent it is. `medium` when left out of a new or replaced task.",
    "due_date": "When it is due: a date and time with its offset from UTC and at most 6 decimals of a second, or null. "
    "Answers are in UTC. That of a new task must not be in the past.",
    "tags": "At most 20. Each is trimmed and lower-cased, then has 1 to 10 characters; repeated ones are dropped, the "
    "order stays.",
    "created_at": "When it was created.",
    "updated_at": "When it was last changed.",
    "completed_at": "When it was completed; null while it is pending.",
    "version": "Grows with every change. In double quotes it is the entity tag of the task, for If-Match.",
}
"""What the members of a task mean, wherever they stand."""

SENT_FIELDS = {"id": "An id of your own making, so that sending the task again does not create it twice."}
"""What else is to be said of members that a client sends."""

SCHEMAS = {
    "Task": "A task. Times are in UTC.",
    "TaskPage": "Tasks in the order asked for; `next_cursor` is the `cursor` of the next page, null on the last one.",
    "TaskSummary": "How many tasks a user has, in all and of each kind.",
    "NewTask": "A task to create. Only `title` is required; what is left out gets its default.",
    "TaskReplacement": "All values of a task. What is left out goes to its default, as in a new task.",
    "TaskChanges": "What to change of a task. What is left out stays; null clears `description` or `due_date`.",
    "Status": "Whether a task is done.",
    "Priority": "How urgent a task is.",
    "Sort": "An order of tasks; `-` reverses it.",
    "StatusCounts": "How many tasks have each status.",
    "PriorityCounts": "How many tasks have each priority.",
    "Problem": "What went wrong: a problem document (RFC 9457).",
    "FieldError": "What is wrong with one value.",
    "Health": "Whether the service can work.",
    "HealthData": "The state of the parts.",
    "Liveness": "That the process answers.",
}

HEADERS: Mapping[str, Json] = {
    "X-Request-ID": {
        "description": "The id of the request in the server's log: the one you sent, or one that was made up.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    "ETag": {
        "description": "The entity tag of the task, for If-Match and If-None-Match: its version in double quotes.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Location": {
        "description": "The path of the task.",
        "required": True,
        "schema": {"type": "string", "pattern": "^/api/[0-9a-f-]{36}/tasks/[0-9a-f-]{36}$"},
    },
    "Idempotency-Replayed": {
        "description": "The task was there already, from an earlier request with the same key or id.",
        "required": True,
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Link": {
        "description": 'The next page, as `<path and query>; rel="next"` (RFC 8288); absent on the last page.',
        "schema": {"type": "string", "pattern": '^<[^<>]+>; rel="next"$'},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Accept": {
        "description": "The content types that may be sent.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Cache-Control": {
        "description": "You may keep the answer, and ask with If-None-Match whether it is still current.",
        "required": True,
        "schema": {"type": "string", "enum": ["private, no-cache"]},
    },
}


def _link(operation: str, description: str, **parameters: str) -> Json:
    return {
        "operationId": operation,
        "description": description,
        "parameters": {name.replace("__", "."): expression for name, expression in parameters.items()},
    }


_OWNER = {"path__user_id": "$response.body#/user_id"}
_THIS = {**_OWNER, "path__task_id": "$response.body#/id"}
_VERSION = {**_THIS, "header__If-Match": "$response.header.ETag"}
_SAME_LIST = {f"query__{name}": f"$request.query.{name}" for name in TaskQuery.model_fields if name != "cursor"}
LINKS: Mapping[str, Json] = {
    "GetTask": _link("get_task", "Get the task.", **_THIS),
    "GetTaskIfChanged": _link(
        "get_task", "Get the task if it has changed.", **_THIS, **{"header__If-None-Match": "$response.header.ETag"}
    ),
    "ReplaceTask": _link("replace_task", "Replace the task unless it has changed.", **_VERSION),
    "ChangeTask": _link("change_task", "Change the task unless it has changed.", **_VERSION),
    "DeleteTask": _link("delete_task", "Delete the task unless it has changed.", **_VERSION),
    "ListTasks": _link("list_tasks", "Find it among the others.", **_OWNER),
    "CountTasks": _link("get_task_summary", "Count it among the others.", **_OWNER),
    "CreateAgain": _link(
        "create_task",
        "Send it again, which changes nothing.",
        **_OWNER,
        **{"header__Idempotency-Key": "$request.header.Idempotency-Key"},
    ),
    "NextPage": _link(
        "list_tasks",
        "The next page, with the same filters and sort.",
        path__user_id="$request.path.user_id",
        query__cursor="$response.body#/next_cursor",
        **_SAME_LIST,
    ),
    "FirstTask": _link(
        "get_task",
        "Get the first task of the page.",
        path__user_id="$response.body#/items/0/user_id",
        path__task_id="$response.body#/items/0/id",
    ),
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
)
_ANY: tuple[type[Problem], ...] = (InvalidInput, ContentTooLarge, RequestTimedOut, InternalError, ServiceUnavailable)
_BODY = (*_ANY, MalformedJson, UnsupportedMediaType)


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
    (*_ANY, TaskNotFound, PreconditionFailed),
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
