"""The feed of changes, by which a client keeps a copy of all tasks of a user (D40)."""

from typing import Annotated

from django.http import HttpResponse
from ninja import Query, Router

from persistence import changes
from todos import contract
from todos.cursors import ChangeCursors
from todos.queries import ChangeQuery
from todos.requests import Request
from todos.responses import json_response
from todos.schemas import ChangePage
from todos.strictness import strict
from todos.types import UserId

router = Router(tags=["tasks"])
router.add_decorator(strict, mode="view")


@router.get("/{segment:user_id}/tasks/changes", response={200: ChangePage}, **contract.LIST_CHANGES)
async def list_changes(request: Request, user_id: UserId, query: Annotated[ChangeQuery, Query(...)]) -> HttpResponse:
    """The tasks that have changed since the cursor, each once and as it is now, in the order of their last changes.

    Deleted ones are among them. Without a cursor, all tasks that are not deleted, and then what has changed since. An
    unknown user has none.
    """
    cursors = ChangeCursors(user_id)
    after = changes.BEGINNING if query.cursor is None else cursors.decode(query.cursor)
    items, passed, more = await changes.page(request.database, user_id, query.limit, after)
    return json_response({"items": items, "next_cursor": cursors.encode(passed), "more": more})
