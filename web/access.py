"""Admits callers: the user that a bearer token names (RFC 6750), on paths of that user only (D31, D34)."""

import logging
import re
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from django.conf import settings
from django.urls import ResolverMatch

from identity.errors import InvalidToken, KeysUnavailable
from todos.errors import SignInOff
from todos.requests import Request
from todos.types import is_id
from web.problems import OtherUser, ServiceUnavailable, TokenMissing, TokenRefused, TooManyRequests
from web.user_rate import UserRate

if TYPE_CHECKING:
    from identity.verifier import Verifier

logger = logging.getLogger(__name__)

PUBLIC = frozenset(
    {"api/docs", "api/openapi.json", "api/static/ninja/<str:name>", "api/v1/health", "api/v1/live", "api/v1/ready"},
)
"""The routes that need no token. Each other one does, so that none is left open by forgetting it."""

ME = "me"
"""Stands in a path for the id of the user that the token names."""

rate = UserRate(settings.USER_REQUESTS_PER_MINUTE) if settings.USER_REQUESTS_PER_MINUTE else None
_USUAL = "Bearer "
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE | re.ASCII)


async def admit(request: Request, match: ResolverMatch) -> None:
    """Sets `signed_in`, and puts the user's id into the path in place of `me`. Asks no database.

    Raises the problems 401, 403 and 429, and 503 for a token that cannot be checked now. A token that was verified
    before costs one lookup in a dict.
    """
    path_user = match.kwargs.get("user_id")
    verifier = request.verifier
    if verifier is None:
        if path_user == ME:
            raise SignInOff
        if rate and path_user is not None and is_id(path_user):
            _count(rate, request, path_user.lower())
        return
    if match.route in PUBLIC:
        return
    sent = request.META.get("HTTP_AUTHORIZATION", "")
    # How nearly all clients write it. A token that is known has the right form.
    known = verifier.known(sent[len(_USUAL) :]) if sent.startswith(_USUAL) else None
    user_id = known or await _verified(request, verifier, sent)
    request.signed_in = user_id
    if rate:
        _count(rate, request, user_id)
    if path_user is not None and path_user != user_id:
        match.kwargs["user_id"] = _own_id(path_user, user_id)


async def _verified(request: Request, verifier: "Verifier", sent: str) -> str:
    bearer, started = _BEARER.fullmatch(sent), monotonic()
    if bearer is None:
        raise TokenMissing
    try:
        user_id = await verifier.user_id(bearer[1])
    except InvalidToken as error:
        raise TokenRefused(error.reason) from None
    except KeysUnavailable as error:
        # Never 401, after which a client would sign its user out (D33).
        logger.warning("Answering 503: a token names a key that is not known, and keys cannot be asked for right now")
        raise ServiceUnavailable("The token cannot be checked right now.", error.retry_after) from None
    # The wait for a key counts, or a stop would not wait for the end of the request.
    request.database = request.database.after(monotonic() - started)
    return user_id


def _count(rate: UserRate, request: Request, user_id: str) -> None:
    if seconds := rate.seconds_to_wait(user_id):
        raise TooManyRequests(seconds)
    request.count_more = partial(_count_more, rate, user_id)


def _count_more(rate: UserRate, user_id: str, number: int) -> None:
    if seconds := rate.count_more(user_id, number):
        raise TooManyRequests(seconds)


def _own_id(path_user: str, user_id: str) -> str:
    """The user's id, if the path means it; what is not an id at all is left for the endpoint to refuse."""
    if path_user == ME or path_user.lower() == user_id:
        return user_id
    if is_id(path_user):
        raise OtherUser
    return path_user
