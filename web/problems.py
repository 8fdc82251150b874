"""Problems of any HTTP service (RFC 9457), and how a problem becomes an answer."""

from collections.abc import Collection

import orjson
from django.http import HttpResponse

# Under this name for the server, too, which answers with problems and does not know `todos`.
from todos.errors import Problem as Problem  # noqa: PLC0414 - the type checker asks for it

_SENT_SHOWN = 100
"""Characters of a header that a text repeats."""


def render(problem: Problem) -> HttpResponse:
    return HttpResponse(
        orjson.dumps(problem.document),
        status=problem.status,
        content_type="application/problem+json",
        headers=dict(problem.headers),
    )


class MalformedRequest(Problem):
    """Found by the server before there was a request for the application, like the next two."""

    status, kind, title = 400, "malformed-request", "The request is not proper HTTP"


class TargetTooLong(Problem):
    status, kind, title = 414, "target-too-long", "The first line of the request is too long"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The method, the path and the query may have at most {limit:,} bytes together.")


class HeadTooLarge(Problem):
    status, kind, title = 431, "head-too-large", "The headers are too large"

    def __init__(self, count: int, size: int, together: int) -> None:
        super().__init__(
            f"A request may have at most {count:,} headers, each of at most {size:,} bytes, and {together:,} together."
        )


class MalformedJson(Problem):
    status, kind, title = 400, "malformed-json", "The body is not JSON"


class TokenMissing(Problem):
    status, kind, title = 401, "token-missing", "A token is needed"

    def __init__(self) -> None:
        super().__init__(
            "Sign in, and send the token in the header Authorization: Bearer <token>.",
            headers={"WWW-Authenticate": "Bearer"},
        )


class TokenRefused(Problem):
    """The reason stands in the header, too (RFC 6750, section 3), so it has neither double quotes nor backslashes."""

    status, kind, title = 401, "token-refused", "The token is not valid"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason} Sign in again, or get a new token.",
            headers={"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{reason}"'},
        )


class OtherUser(Problem):
    """The same whether that user exists or not (D34)."""

    status, kind, title = 403, "other-user", "The path names another user"

    def __init__(self) -> None:
        super().__init__("A token opens the paths of its own user only. Write `me` in place of the id.")


class PathNotFound(Problem):
    status, kind, title = 404, "path-not-found", "There is nothing at this path"

    def __init__(self, path: str = "") -> None:
        hint = ", and none has a slash at its end" if path.endswith("/") else ""
        super().__init__(f"No resource has this path{hint}; /api/docs lists them all.")


class MethodNotAllowed(Problem):
    status, kind, title = 405, "method-not-allowed", "The resource does not have this method"

    def __init__(self, methods: Collection[str]) -> None:
        allowed = ", ".join(methods)
        super().__init__(f"Use one of: {allowed}.", headers={"Allow": allowed})


class RequestTimedOut(Problem):
    status, kind, title = 408, "request-timeout", "The request took too long to arrive"

    def __init__(self, part: str, seconds: float) -> None:
        super().__init__(f"The {part} did not arrive within {seconds:g} seconds.")


class ContentTooLarge(Problem):
    status, kind, title = 413, "content-too-large", "The body is too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"A body may have at most {limit} bytes.")


class UnsupportedMediaType(Problem):
    status, kind, title = 415, "unsupported-media-type", "The body has another type than JSON"

    def __init__(self, sent: str, accepted: Collection[str] = ("application/json",)) -> None:
        """`sent` is what the client sent instead, or nothing."""
        said = f"not {sent[:_SENT_SHOWN]}" if sent else "which is missing"
        super().__init__(
            f"Send JSON with the header Content-Type: {' or '.join(accepted)}, {said}.",
            headers={"Accept": ", ".join(accepted)},
        )


class TooManyRequests(Problem):
    status, kind, title = 429, "too-many-requests", "The user makes too many requests"
    counted_as = "rate"

    def __init__(self, retry_after: int) -> None:
        super().__init__("Make them more slowly.", headers={"Retry-After": str(retry_after)})


class InternalError(Problem):
    status, kind, title = 500, "internal-error", "Something unexpected happened"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The server's log says more under the request id {request_id}.")


class ServiceUnavailable(Problem):
    """Another try can succeed, after the seconds that Retry-After names."""

    status, kind, title = 503, "service-unavailable", "The service cannot answer right now"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class SchemaMismatched(ServiceUnavailable):
    """An administrator has to migrate the database, or to start code that fits it."""

    status, kind, title = 503, "schema-mismatch", "The database does not fit the service"


class WriteOutcomeUnknown(Problem):
    """The write may have happened or not; a repeat that a key, an id or If-Match makes safe tells which."""

    status, kind, title = 503, "outcome-unknown", "Whether the change was made is not known"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(
            f"{detail} Look, or send it again if an Idempotency-Key, an `id` or If-Match makes that safe.",
            headers={"Retry-After": str(retry_after)},
        )
