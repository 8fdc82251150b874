"""The trash: deleted tasks, until they are restored or erased (D41)."""

from typing import Annotated

from django.conf import settings
from django.http import HttpResponse
from ninja import Query, Router

from persistence import tasks, trash
from todos import contract
from todos.cursors import ListCursors
from todos.errors import NotInTrash
from todos.etags import expected
from todos.headers import ChangeKeyHeader, IfMatchHeader
from todos.queries import PageQuery
from todos.requests import Request
from todos.responses import change_response, page_response
from todos.schemas import TaskOut, TrashPage
from todos.strictness import strict
from todos.types import Id, UserId

router = Router(tags=["trash"])
router.add_decorator(strict, mode="view")

_TRASH = "/{segment:user_id}/trash"
_TASK = "/{segment:user_id}/trash/{str:task_id}"


@router.get(_TRASH, response={200: TrashPage}, **contract.LIST_TRASH)
async def list_trash(request: Request, user_id: UserId, query: Annotated[PageQuery, Query(...)]) -> HttpResponse:
    """The user's deleted tasks that are not erased, a page at a time, the one that was deleted last first.

    An unknown user has none.
    """
    cursors = ListCursors(user_id, {}, "deleted_at", descending=True)
    after = None if query.cursor is None else cursors.decode(query.cursor)
    rows = await trash.page(request.database, user_id, query.limit + 1, after)
    return page_response(request, f"/api/{user_id}/trash", cursors, rows, query.limit)


@router.delete(_TRASH, response={204: None}, **contract.EMPTY_TRASH)
async def empty_trash(request: Request, user_id: UserId) -> HttpResponse:
    """Erases all tasks of the trash, for good.

    If the time of the request does not suffice, the answer is 503 `outcome-unknown`: send it again for the rest.
    """
    await trash.erase_all(request.database, user_id)
    return HttpResponse(status=204)


@router.delete(_TASK, response={204: None}, **contract.ERASE_TASK)
async def erase_task(request: Request, user_id: UserId, task_id: Id) -> HttpResponse:
    """Erases a task of the trash, for good. Clients that keep a copy are told so by the changes."""
    if not await trash.erase(request.database, user_id, task_id):
        raise NotInTrash
    return HttpResponse(status=204)


@router.post(_TASK + "/restore", response={200: TaskOut}, **contract.RESTORE_TASK)
async def restore_task(
    request: Request, user_id: UserId, task_id: Id, if_match: IfMatchHeader, idempotency_key: ChangeKeyHeader
) -> HttpResponse:
    """Takes a task out of the trash, as it was."""
    row = await tasks.restore(
        request.database, user_id, task_id, expected(if_match), key=idempotency_key, tasks_max=settings.USER_TASKS_MAX
    )
    if row is None:
        raise NotInTrash
    return change_response(row)
