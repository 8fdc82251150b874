"""The task endpoints: parse, one statement, answer."""

from typing import Annotated

from django.http import HttpResponse
from ninja import Query, Router

from persistence import tasks
from persistence.tasks import TaskRow
from todos import cursors
from todos.errors import TaskNotFound, UserNotFound
from todos.requests import Request
from todos.responses import json_response
from todos.schemas import NewTask, ProblemOut, TaskChanges, TaskOut, TaskPage, TaskReplacement
from todos.types import Id

router = Router(tags=["tasks"])

DEFAULT_LIMIT = 100
MAX_LIMIT = 500

_PROBLEMS = {400: ProblemOut, 500: ProblemOut, 503: ProblemOut}
_BODY_PROBLEMS = _PROBLEMS | {408: ProblemOut, 413: ProblemOut, 415: ProblemOut}


@router.get("/{segment:user_id}/tasks", response={200: TaskPage, **_PROBLEMS})
async def list_tasks(
    request: Request,
    user_id: Id,
    limit: Annotated[int, Query(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)],
    cursor: Annotated[str | None, Query(None)] = None,
) -> HttpResponse:
    """The user's tasks, newest first. An unknown user has none."""
    after = cursors.decode(cursor) if cursor is not None else None
    # One more than asked for tells whether there is a next page.
    rows = await tasks.page(request.database, user_id, limit + 1, after)
    items = rows[:limit]
    last = items[-1] if len(rows) > limit else None
    return json_response(
        {"items": items, "next_cursor": cursors.encode(last["created_at"], last["id"]) if last else None}
    )


@router.post("/{segment:user_id}/tasks", response={201: TaskOut, **_BODY_PROBLEMS, 404: ProblemOut, 409: ProblemOut})
async def create_task(request: Request, user_id: Id, task: NewTask) -> HttpResponse:
    """Creates a task for the user."""
    row = await tasks.create(request.database, user_id, task.values())
    if row is None:
        raise UserNotFound
    response = json_response(row, status=201)
    response["Location"] = f"/api/{user_id}/tasks/{row['id']}"
    return response


@router.get("/{segment:user_id}/tasks/{segment:task_id}", response={200: TaskOut, **_PROBLEMS, 404: ProblemOut})
async def get_task(request: Request, user_id: Id, task_id: Id) -> HttpResponse:
    """One task of the user."""
    return _found(await tasks.get(request.database, user_id, task_id))


@router.put("/{segment:user_id}/tasks/{segment:task_id}", response={200: TaskOut, **_BODY_PROBLEMS, 404: ProblemOut})
async def replace_task(request: Request, user_id: Id, task_id: Id, task: TaskReplacement) -> HttpResponse:
    """Replaces every value of the task; what is left out goes to its default."""
    return _found(await tasks.replace(request.database, user_id, task_id, task.values()))


@router.patch("/{segment:user_id}/tasks/{segment:task_id}", response={200: TaskOut, **_BODY_PROBLEMS, 404: ProblemOut})
async def change_task(request: Request, user_id: Id, task_id: Id, task: TaskChanges) -> HttpResponse:
    """Changes what is sent and leaves the rest."""
    return _found(await tasks.patch(request.database, user_id, task_id, task.values()))


@router.delete("/{segment:user_id}/tasks/{segment:task_id}", response={200: TaskOut, **_PROBLEMS, 404: ProblemOut})
async def delete_task(request: Request, user_id: Id, task_id: Id) -> HttpResponse:
    """Deletes the task and answers with it as it was, so that a client can offer undo."""
    return _found(await tasks.remove(request.database, user_id, task_id))


def _found(row: TaskRow | None) -> HttpResponse:
    if row is None:
        raise TaskNotFound
    return json_response(row)
