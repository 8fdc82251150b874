"""What can be wrong with a request, as exceptions that carry their status; `config/problems.py` renders them.

Each has a `kind` that clients may rely on: it becomes the `type` of the problem document (RFC 9457, section 3.1.1).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, TypedDict

TYPE_PREFIX = "urn:problem:todo:"
ERRORS_SHOWN = 50
"""So that a body made of mistakes does not get an answer many times its size."""


class FieldError(TypedDict):
    """What is wrong with one value; `field` is its path in the body, or the name of a parameter."""

    field: str
    detail: str


class Problem(Exception):
    """A response that is not what the client asked for; `detail` is for people and holds nothing secret."""

    status: ClassVar[int]
    kind: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    @property
    def document(self) -> dict[str, Any]:
        """The problem document, for JSON."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors[:ERRORS_SHOWN]
        return document


class InvalidInput(Problem):
    status, kind, title = 400, "invalid-input", "The request is not valid"

    @classmethod
    def of(cls, *errors: FieldError) -> "InvalidInput":
        detail = "One value is not valid." if len(errors) == 1 else f"{len(errors)} values are not valid."
        return cls(f"{detail} See `errors`.", errors=errors)


class MalformedJson(Problem):
    status, kind, title = 400, "malformed-json", "The body is not JSON"


class TaskNotFound(Problem):
    """The same for a task that is not there and for somebody else's (D26)."""

    status, kind, title = 404, "task-not-found", "There is no such task"

    def __init__(self) -> None:
        super().__init__("This user has no task with this id.")


class UserNotFound(Problem):
    status, kind, title = 404, "user-not-found", "There is no such user"

    def __init__(self) -> None:
        super().__init__("There is no user with this id, so nothing was created.")


class PathNotFound(Problem):
    status, kind, title = 404, "path-not-found", "There is nothing at this path"

    def __init__(self, path: str = "") -> None:
        hint = "leave out the slash at its end" if len(path) > 1 and path.endswith("/") else "/api/docs lists them all"
        super().__init__(f"No resource has this path; {hint}.")


class MethodNotAllowed(Problem):
    status, kind, title = 405, "method-not-allowed", "The resource does not have this method"

    def __init__(self, methods: Collection[str]) -> None:
        allowed = ", ".join(methods)
        super().__init__(f"Use one of: {allowed}.", headers={"Allow": allowed})


class RequestTimedOut(Problem):
    status, kind, title = 408, "request-timeout", "The request took too long to arrive"


class Conflict(Problem):
    status, kind, title = 409, "conflict", "The request conflicts with what is stored"


class PreconditionFailed(Problem):
    status, kind, title = 412, "precondition-failed", "The task has changed"

    def __init__(self, current: str) -> None:
        super().__init__(
            f"The task is not, or no longer, in a version that If-Match names: its entity tag is {current}. Get it, "
            "decide what to do about the change, and send this with the new entity tag.",
            headers={"ETag": current},
        )


class ContentTooLarge(Problem):
    status, kind, title = 413, "content-too-large", "The body is too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"A body may have at most {limit} bytes.")


class UnsupportedMediaType(Problem):
    status, kind, title = 415, "unsupported-media-type", "The body has another type than JSON"

    def __init__(self, content_type: str, accepted: Collection[str] = ("application/json",)) -> None:
        said = f"not {content_type}" if content_type else "which is missing"
        super().__init__(
            f"Send JSON with the header Content-Type: {' or '.join(accepted)}, {said}.",
            headers={"Accept": ", ".join(accepted)},
        )


class InternalError(Problem):
    status, kind, title = 500, "internal-error", "Something unexpected happened"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The server's log says more under the request id {request_id}.")


class ServiceUnavailable(Problem):
    """Trying again can help, after the seconds that Retry-After names."""

    status, kind, title = 503, "service-unavailable", "The service cannot answer right now"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class WriteOutcomeUnknown(Problem):
    """The write may have happened or not; a repeat that a key, an id or If-Match makes safe tells which."""

    status, kind, title = 503, "outcome-unknown", "Whether the change was made is not known"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(
            f"{detail} Look, or send it again if an Idempotency-Key, an `id` or If-Match makes that safe.",
            headers={"Retry-After": str(retry_after)},
        )


class MalformedRequest(InvalidInput):
    """Said by the server itself, as no application sees such a request; so are the next two."""

    status, kind, title = 400, "malformed-request", "The request is not proper HTTP"


class TargetTooLong(MalformedRequest):
    status, kind, title = 414, "target-too-long", "The first line of the request is too long"

    def __init__(self) -> None:
        super().__init__("The method, the path and the query may have at most 8,190 bytes together.")


class HeadTooLarge(MalformedRequest):
    status, kind, title = 431, "head-too-large", "The headers are too large"

    def __init__(self) -> None:
        super().__init__("A request may have at most 100 headers, and each at most 8,190 bytes.")
