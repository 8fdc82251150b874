"""The request that endpoints get, and sessions for endpoints that need more than one statement."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Concatenate

from django.core.handlers.asgi import ASGIRequest
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence.postgres.database import Database

if TYPE_CHECKING:
    from identity.verifier import Verifier

JSON_TYPES = ("application/json",)
PATCH_TYPES = (*JSON_TYPES, "application/merge-patch+json")
"""The content types of a body, and of one that PATCH takes (RFC 7396)."""


class Request(ASGIRequest):
    """Django's request with the database that the server opened at its start, and the user who sends it."""

    database: Database
    verifier: "Verifier | None"
    request_id: str
    signed_in: str | None = None
    """The id of the user whom the token names; None where no tokens are asked for (`web/access.py`)."""
    receive_body: Callable[[int, float], Awaitable[bytes]]
    """Reads the body, of at most so many bytes and within so many seconds."""
    count_more: Callable[[int], None] | None = None
    """Counts so many requests more for the limit of the user; None where there is none."""

    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:  # noqa: ARG002 - Django hands it over
        """Leaves Content-Type to `web/api.py`, which reads the body.

        Django takes it apart for every request, which took 10 ms for 8,000 semicolons, and decodes the query by it.
        """
        self.content_type, self.content_params = "", {}


def with_session[**P, R](
    endpoint: Callable[Concatenate[Request, AsyncSession, P], Awaitable[R]],
) -> Callable[Concatenate[Request, P], Awaitable[R]]:
    """Hands an endpoint a session of its own as second argument: committed when it returns, rolled back when it raises.

    For work that needs several statements in one transaction; everything else is one statement on `request.database`.
    """

    @wraps(endpoint)
    async def wrapper(request: Request, /, *args: P.args, **kwargs: P.kwargs) -> R:
        async with request.database.session() as session:
            return await endpoint(request, session, *args, **kwargs)

    # Ninja reads the parameters of what it calls, and a client does not send the session.
    original = signature(endpoint)
    parameters = list(original.parameters.values())
    _hide_session(wrapper, [parameters[0], *parameters[2:]])
    return wrapper


def _hide_session(function: Any, parameters: list[Parameter]) -> None:
    function.__signature__ = signature(function).replace(parameters=parameters)
