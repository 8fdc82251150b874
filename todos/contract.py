"""The words of the OpenAPI document for each operation beyond its signature: headers, examples, problems, links.

`web/openapi.py` puts the document together and adds what is the same for all operations. Clients are generated from it,
so names here are promises.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from todos import exports
from todos.errors import (
    AccountErased,
    ChangesGone,
    NotInTrash,
    PreconditionFailed,
    Problem,
    TaskDeleted,
    TaskNotFound,
    TooManyTasks,
    UserNotFound,
)
from todos.queries import TaskQuery
from todos.requests import JSON_TYPES, PATCH_TYPES
from todos.schemas import TaskOut

type Json = dict[str, Any]

PROBLEMS = "problems"
"""The key in an operation under which `web/openapi.py` finds the problems of that operation alone."""

TASK: Json = {name: (field.examples or [None])[0] for name, field in TaskOut.model_fields.items()}
_TRASHED = TASK | {"deleted_at": TASK["updated_at"]}
_CHANGED = TASK | {"deleted_at": None, "erased": False}
PATH_PARAMETERS = {
    "user_id": ("The user whose tasks these are; `me` is the user of the token.", TASK["user_id"]),
    "task_id": ("The task.", TASK["id"]),
}
HEADERS: Mapping[str, Json] = {
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
        "description": "An earlier request with the same key or id has done this already.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Link": {
        "description": 'The next page, as `<path and query>; rel="next"` (RFC 8288); absent on the last page.',
        "schema": {"type": "string", "pattern": '^<[^<>]+>; rel="next"$'},
    },
    "Content-Disposition": {
        "description": "A name for the file.",
        "required": True,
        "schema": {"type": "string", "pattern": '^attachment; filename="[a-z.]+"$'},
    },
    "Cache-Control": {
        "description": "You may keep the answer, and ask with If-None-Match whether it is still current.",
        "required": True,
        "schema": {"type": "string", "enum": ["private, no-cache"]},
    },
}

_CHANGE_CURSOR = "3nW0sK5cS1T__________________________wAGYMSl6voAAAZgxKXq-g"
_CURSOR = "5c8dR0YcC2isO9tQdeZLx5yIkrTc-Fk6AAZghUCDRiM"


def _example(*names: str) -> Json:
    if unknown := set(names) - TASK.keys():
        raise TypeError(f"todos/contract.py has an example with {', '.join(unknown)}, which is not a field of a task")
    return {name: TASK[name] for name in names}


_TIMES = ("due_date", "created_at", "updated_at")
_EXPORTED = TASK | {name: datetime.fromisoformat(TASK[name]) for name in _TIMES} | {"deleted_at": None}


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
_NEXT_PART = {
    "path.user_id": "$request.path.user_id",
    "query.cursor": "$response.body#/next_cursor",
    "query.limit": "$request.query.limit",
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
    "NextChanges": _link("list_changes", "What has changed since.", _NEXT_PART),
    "ListChanges": _link("list_changes", "See it among all changes.", _OWNER),
    "NextTrash": _link("list_trash", "The next page of the trash.", _NEXT_PART),
    "ListTrash": _link("list_trash", "Find it in the trash.", _OWNER),
    "RestoreTask": _link("restore_task", "Restore the task unless it has changed.", _IF_UNCHANGED),
    "RestoreFirst": _link("restore_task", "Restore the first task of the page.", _FIRST_TASK),
    "EraseFirst": _link("erase_task", "Erase the first task of the page.", _FIRST_TASK),
    "EraseTask": _link("erase_task", "Erase the task.", _THIS),
}
_FROM_TASK = ("GetTask", "GetTaskIfChanged", "ReplaceTask", "ChangeTask", "DeleteTask", "ListTasks", "CountTasks")


def answer(description: str, example: Any = None, *headers: str, links: tuple[str, ...] = ()) -> Json:
    """One response of an operation; `headers` and `links` are names from above."""
    said: Json = {"description": description, "headers": references("headers", *headers)}
    if example is not None:
        said["content"] = {"application/json": {"example": example}}
    if links:
        said["links"] = references("links", *links)
    return said


def references(kind: str, *names: str) -> Json:
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}


def operation(
    name: str,
    summary: str,
    answers: Mapping[int, Json],
    problems: tuple[type[Problem], ...] = (),
    body: Json | None = None,
    *,
    content_types: Iterable[str] = JSON_TYPES,
) -> Json:
    """Arguments for the methods of a Ninja router; `problems` are those that not every operation has."""
    extra: Json = {"responses": {**answers}, PROBLEMS: problems}
    if body:
        extra["requestBody"] = {"content": {content_type: {"example": body} for content_type in content_types}}
    return {"operation_id": name, "summary": summary, "openapi_extra": extra}


LIST_TASKS = operation(
    "list_tasks",
    "List tasks",
    {
        200: answer(
            "A page of tasks. `next_cursor` is null on the last one.",
            {"items": [TASK], "next_cursor": _CURSOR},
            "Link",
            links=("NextPage", "FirstTask"),
        )
    },
)
CREATE_TASK = operation(
    "create_task",
    "Create a task",
    {
        201: answer("The new task.", TASK, "Location", "ETag", links=(*_FROM_TASK, "CreateAgain")),
        200: answer(
            "The task is there already, from an earlier request with the same key or id; this is how it is now.",
            TASK, "Location", "ETag", "Idempotency-Replayed", links=_FROM_TASK,
        ),
    },
    (UserNotFound, AccountErased, TaskDeleted, TooManyTasks),
    _example("title", "description", "priority", "tags"),
)  # fmt: skip
_OTHER_ID = "1b9e8f0a-3c57-4a40-9d0c-5e3c6a0b7d21"
_LIVE = {"deleted_at": None}
WRITE_BATCH = operation(
    "write_batch",
    "Make many changes",
    {
        200: answer(
            "What has become of each item.",
            {
                "results": [
                    {"id": TASK["id"], "status": 201, "task": TASK | _LIVE},
                    {"id": _OTHER_ID, "status": 404, "problem": TaskNotFound().document},
                ]
            },
        )
    },
    body={
        "items": [
            {"op": "create", "id": TASK["id"], **_example("title", "description", "priority", "tags")},
            {"op": "patch", "id": _OTHER_ID, "if_version": TASK["version"], "status": "completed"},
        ]
    },
)
GET_TASK_SUMMARY = operation(
    "get_task_summary",
    "Count tasks",
    {
        200: answer(
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
)
GET_TASK = operation(
    "get_task",
    "Get a task",
    {
        200: answer("The task.", TASK, "ETag", "Cache-Control", links=_FROM_TASK),
        304: answer("The task is as you know it.", None, "ETag", "Cache-Control"),
    },
    (TaskNotFound,),
)
REPLACE_TASK = operation(
    "replace_task",
    "Replace a task",
    {200: answer("The task as it is now.", TASK, "ETag", "Idempotency-Replayed", links=_FROM_TASK)},
    (TaskNotFound, PreconditionFailed),
    _example("title", "description", "status", "priority", "tags"),
)
CHANGE_TASK = operation(
    "change_task",
    "Change a task",
    {200: answer("The task as it is now.", TASK, "ETag", "Idempotency-Replayed", links=_FROM_TASK)},
    (TaskNotFound, PreconditionFailed),
    {"status": "completed"},
    content_types=PATCH_TYPES,
)
DELETE_TASK = operation(
    "delete_task",
    "Delete a task",
    {
        200: answer(
            "The task, which is in the trash now.",
            _TRASHED,
            "ETag",
            "Idempotency-Replayed",
            links=("ListTasks", "CountTasks", "ListChanges", "ListTrash", "RestoreTask", "EraseTask"),
        )
    },
    (TaskNotFound, PreconditionFailed),
)
EXPORT_TASKS = operation(
    "export_tasks",
    "Export all tasks",
    {
        200: answer("The file.", None, "Content-Disposition")
        | {
            "content": {
                each.content_type: {
                    "schema": {"type": "string"},
                    "example": (each.header + each.written(_EXPORTED) + each.footer).decode(),
                }
                for each in exports.FORMATS.values()
            }
        }
    },
)
IMPORT_TASKS = operation(
    "import_tasks",
    "Import tasks",
    {
        200: answer(
            "What became of each task.",
            {
                "imported": 1,
                "known": 0,
                "deleted": 0,
                "refused": 1,
                "dry_run": False,
                "lines_shown": 2,
                "lines": [
                    {
                        "line": 2,
                        "status": "refused",
                        "id": None,
                        "title": None,
                        "errors": [{"field": "title", "detail": "This is required"}],
                        "notes": [],
                    },
                    {
                        "line": 1,
                        "status": "imported",
                        "id": TASK["id"],
                        "title": TASK["title"],
                        "errors": [],
                        "notes": [],
                    },
                ],
            },
        )
    },
    (UserNotFound, AccountErased),
)
# Any type is taken, but generators of clients know few.
IMPORT_TASKS["openapi_extra"]["requestBody"] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "description": "A line of the form `jsonl`, or the file of Google Takeout.",
                "properties": {"title": {"type": "string", "description": "And the other fields of a task."}},
            },
            "example": _example("title"),
        },
        "application/octet-stream": {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "The file. Any other content type is taken, too, but for `multipart/form-data`.",
            }
        },
    },
}

LIST_CHANGES = operation(
    "list_changes",
    "List changes",
    {
        200: answer(
            "The tasks that have changed. If none has, `items` is empty, and the cursor is as good as the one before.",
            {"items": [_CHANGED], "next_cursor": _CHANGE_CURSOR, "more": False},
            links=("NextChanges",),
        )
    },
    (ChangesGone,),
)
LIST_TRASH = operation(
    "list_trash",
    "List the trash",
    {
        200: answer(
            "A page of deleted tasks. `next_cursor` is null on the last one.",
            {"items": [_TRASHED], "next_cursor": _CURSOR},
            "Link",
            links=("NextTrash", "RestoreFirst", "EraseFirst"),
        )
    },
)
RESTORE_TASK = operation(
    "restore_task",
    "Restore a task",
    {200: answer("The task, which is live again.", TASK, "ETag", "Idempotency-Replayed", links=_FROM_TASK)},
    (NotInTrash, PreconditionFailed, TooManyTasks),
)
ERASE_TASK = operation(
    "erase_task", "Erase a task", {204: answer("There is nothing left of it but its id.")}, (NotInTrash,)
)
EMPTY_TRASH = operation("empty_trash", "Empty the trash", {204: answer("The trash is empty.")})

GET_ACCOUNT = operation(
    "get_account",
    "Get the account",
    {
        200: answer(
            "The account.",
            {
                "id": TASK["user_id"],
                "created_at": TASK["created_at"],
                "tasks": {"total": 3, "pending": 2, "completed": 1},
            },
        )
    },
    (AccountErased,),
)
ERASE_ACCOUNT = operation(
    "erase_account",
    "Erase the account",
    {204: answer("There is nothing left of it; a repeat gets the same answer.")},
    (AccountErased,),
)


_FINDING = " This is a finding and not a problem, so the answer has the form that it has with 200."


def _health(state: str, database: str, migration: str, status: int, message: str, **more: Any) -> Json:
    data = {"status": state, "database": database, "migration": migration, **more}
    return answer(message + _FINDING * (status == 503), {"status_code": status, "message": message, "data": data})


GET_HEALTH = operation(
    "get_health",
    "Whether the service can work",
    {
        200: _health("healthy", "connected", "up-to-date", 200, "The service is healthy."),
        503: _health("unhealthy", "disconnected", "unknown", 503, "The database cannot be reached."),
    },
)
GET_READINESS = operation(
    "get_readiness",
    "Whether to send requests here",
    {
        200: _health("ready", "connected", "up-to-date", 200, "The service is ready.", keys="known", stopping=False),
        503: _health(
            "not-ready", "unknown", "unknown", 503, "The server is about to stop.", keys="known", stopping=True
        ),
    },
)
GET_LIVENESS = operation("get_liveness", "Whether the process answers", {200: answer("It does.", {"status": "alive"})})
