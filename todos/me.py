"""The account of the user who has signed in: what there is of it, and its end."""

from uuid import UUID

from django.http import HttpResponse
from ninja import Router

from persistence import users
from todos import contract
from todos.errors import AccountErased, SignInOff
from todos.requests import Request
from todos.responses import json_response
from todos.schemas import Account
from todos.strictness import strict

router = Router(tags=["account"])
router.add_decorator(strict, mode="view")


@router.get("/me", response={200: Account}, **contract.GET_ACCOUNT)
async def get_account(request: Request) -> HttpResponse:
    """The user of the token, and the number of its tasks. Before the first task, nothing is stored of the user."""
    user_id = _signed_in(request)
    account = await users.account(request.database, user_id)
    if account.is_erased:
        raise AccountErased
    counts = {"total": account.total, "pending": account.pending, "completed": account.completed}
    return json_response({"id": user_id, "created_at": account.created_at, "tasks": counts})


@router.delete("/me", response={204: None}, **contract.ERASE_ACCOUNT)
async def erase_account(request: Request) -> HttpResponse:
    """Erases all tasks and all that is known of the user, at once and for good.

    Tokens that are still valid create nothing any more. The user of the sign-in service stays: delete that one there.
    """
    await users.erase(request.database, _signed_in(request))
    return HttpResponse(status=204)


def _signed_in(request: Request) -> UUID:
    if request.signed_in is None:
        raise SignInOff
    return UUID(request.signed_in)
