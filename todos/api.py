"""The task endpoints: parse, one statement, answer."""

from typing import Annotated
from uuid import UUID, uuid5

import orjson
from django.conf import settings
from django.http import HttpResponse, HttpResponseNotModified
from ninja import Query, Router

from persistence import batches, task_lists, tasks
from persistence.tasks import TaskRow
from todos import contract, cursors
from todos.batches import Batch, BatchResults, Faulty, result
from todos.errors import InvalidInput, TaskNotFound, UserNotFound
from todos.etags import etag, expected, is_fresh
from todos.headers import ChangeKeyHeader, IdempotencyKeyHeader, IfMatchHeader, IfNoneMatchHeader
from todos.queries import TaskQuery
from todos.requests import Request
from todos.responses import change_response, json_response, page_response, task_response
from todos.schemas import NewTask, TaskChanges, TaskOut, TaskPage, TaskReplacement, TaskSummary, TrashedTask
from todos.strictness import strict
from todos.types import Id, UserId

router = Router(tags=["tasks"])
router.add_decorator(strict, mode="view")

_TASKS = "/{segment:user_id}/tasks"
_TASK = "/{segment:user_id}/tasks/{task:task_id}"


@router.get(_TASKS, response={200: TaskPage}, **contract.LIST_TASKS)
async def list_tasks(request: Request, user_id: UserId, query: Annotated[TaskQuery, Query(...)]) -> HttpResponse:
    """The user's tasks that meet all filters, a page at a time, newest first unless told otherwise.

    An unknown user has none.
    """
    filters = query.filters()
    this_list = cursors.ListCursors(user_id, filters, query.sort_key, descending=query.descending)
    after = None if query.cursor is None else this_list.decode(query.cursor)
    rows = await task_lists.page(
        request.database, user_id, query.limit + 1, filters, query.sort_key, descending=query.descending, after=after
    )
    return page_response(request, _tasks_path(user_id), this_list, rows, query.limit)


@router.post(_TASKS, response={201: TaskOut, 200: TaskOut}, **contract.CREATE_TASK)
async def create_task(
    request: Request,
    user_id: UserId,
    task: NewTask,
    idempotency_key: IdempotencyKeyHeader,
) -> HttpResponse:
    """Creates a task for the user: once, however often it is sent, if it names a key or an id."""
    task_id = _chosen_id(user_id, task, idempotency_key)
    if task.is_late:
        # A repeat may come when the due date of what it repeats has passed.
        there = await tasks.created_before(request.database, user_id, task_id) if task_id else None
        if there is None:
            raise InvalidInput.of({"field": "due_date", "detail": "The due date of a new task cannot be in the past"})
        return _created(there, replayed=True)
    # The first task of a user who has signed in makes the user's row (D35).
    makes_owner = request.signed_in is not None
    row = await tasks.create(
        request.database, user_id, task.values(), task_id, makes_owner=makes_owner, tasks_max=settings.USER_TASKS_MAX
    )
    if row is None:
        raise UserNotFound
    return _created(row, replayed=row.pop("replayed"))


@router.get(_TASK, response={200: TaskOut}, **contract.GET_TASK)
async def get_task(
    request: Request,
    user_id: UserId,
    task_id: Id,
    if_none_match: IfNoneMatchHeader,
) -> HttpResponse:
    """One task of the user."""
    row = await tasks.get(request.database, user_id, task_id)
    if row is None:
        raise TaskNotFound
    response = HttpResponseNotModified() if is_fresh(row["version"], if_none_match) else json_response(row)
    response["ETag"] = etag(row["version"])
    # A client may keep it, and asks whether it is still good before using it again.
    response["Cache-Control"] = "private, no-cache"
    return response


@router.put(_TASK, response={200: TaskOut}, **contract.REPLACE_TASK)
async def replace_task(
    request: Request,
    user_id: UserId,
    task_id: Id,
    task: TaskReplacement,
    *,
    if_match: IfMatchHeader,
    idempotency_key: ChangeKeyHeader,
) -> HttpResponse:
    """Replaces every value of the task; what is left out goes to its default."""
    versions = expected(if_match)
    return change_response(
        await tasks.replace(request.database, user_id, task_id, task.values(), versions, key=idempotency_key)
    )


@router.patch(_TASK, response={200: TaskOut}, **contract.CHANGE_TASK)
async def change_task(
    request: Request,
    user_id: UserId,
    task_id: Id,
    task: TaskChanges,
    *,
    if_match: IfMatchHeader,
    idempotency_key: ChangeKeyHeader,
) -> HttpResponse:
    """Changes what is sent and leaves the rest."""
    versions = expected(if_match)
    return change_response(
        await tasks.patch(request.database, user_id, task_id, task.values(), versions, key=idempotency_key)
    )


@router.delete(_TASK, response={200: TrashedTask}, **contract.DELETE_TASK)
async def delete_task(
    request: Request, user_id: UserId, task_id: Id, if_match: IfMatchHeader, idempotency_key: ChangeKeyHeader
) -> HttpResponse:
    """Puts the task into the trash and answers with it, so that a client can offer undo."""
    return change_response(
        await tasks.remove(request.database, user_id, task_id, expected(if_match), key=idempotency_key)
    )


@router.post(_TASKS + "/batch", response={200: BatchResults}, **contract.WRITE_BATCH)
async def write_batch(request: Request, user_id: UserId, batch: Batch) -> HttpResponse:
    """Makes up to 100 changes together, and tells what has become of each."""
    items, limit = batch.checked(), settings.USER_TASKS_MAX
    if request.count_more:
        request.count_more(len(items) - 1)
    writes = [item.write() for item in items if not isinstance(item, Faulty)]
    makes_owner = request.signed_in is not None
    outcomes = await batches.run(request.database, user_id, writes, makes_owner=makes_owner, tasks_max=limit)
    done = (result(write, outcome) for write, outcome in zip(writes, outcomes, strict=True))
    return json_response({"results": [item.result if isinstance(item, Faulty) else next(done) for item in items]})


@router.get(_TASKS + "/summary", response={200: TaskSummary}, **contract.GET_TASK_SUMMARY)
async def get_task_summary(request: Request, user_id: UserId) -> HttpResponse:
    """Counts the user's tasks, in all and of each kind. An unknown user has none."""
    row = await task_lists.summary(request.database, user_id)
    # There may be any number of tags, so PostgreSQL writes them as JSON, and nothing reads them in between.
    return json_response({**row, "tags": orjson.Fragment(row["tags"])})


def _tasks_path(user_id: UUID) -> str:
    """The address of the user's tasks, which has the id also where `me` was sent."""
    return f"/api/{user_id}/tasks"


def _chosen_id(user_id: UUID, task: NewTask, idempotency_key: str | None) -> UUID | None:
    """The id that a repeat would have as well: the client's own, or the one that owner and key make."""
    if idempotency_key is None:
        return task.chosen_id
    if task.chosen_id is not None:
        raise InvalidInput.of({"field": "Idempotency-Key", "detail": "Send this or an `id` in the body, not both"})
    return uuid5(user_id, idempotency_key)


def _created(row: TaskRow, *, replayed: bool) -> HttpResponse:
    response = task_response(row, replayed=replayed, status=200 if replayed else 201)
    response["Location"] = f"{_tasks_path(row['user_id'])}/{row['id']}"
    return response
