"""The faults of a request for tasks, as exceptions that carry their status; `web/problems.py` has the other faults.

Each has a `kind` that clients may rely on: it becomes the `type` of the problem document (RFC 9457, section 3.1.1).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypedDict

TYPE_PREFIX = "urn:problem:todo:"
ERRORS_SHOWN = 50
"""Faults that an answer names at most, so that a body made of mistakes does not get an answer many times its size."""


class FieldError(TypedDict):
    """The fault of one value; `field` is its path in the body, or the name of a parameter."""

    field: str
    detail: str


class Problem(Exception):
    """A response that is not what the client asked for; `detail` is for people and holds nothing secret."""

    status: ClassVar[int]
    kind: ClassVar[str]
    title: ClassVar[str]
    counted_as: ClassVar[str] = ""
    """The reason under which the metric of refused requests counts it, if it does."""

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


class TaskNotFound(Problem):
    """The same for a task that does not exist and for one of another user (D26)."""

    status, kind, title = 404, "task-not-found", "There is no such task"

    def __init__(self, detail: str = "This user has no task with this id.") -> None:
        super().__init__(detail)


class NotInTrash(TaskNotFound):
    """The same for a task that is live, for one that is erased, and for one that never was."""

    def __init__(self) -> None:
        super().__init__(
            "The trash of this user has no task with this id. It was not deleted, or was restored or erased, or there "
            "was none."
        )


class UserNotFound(Problem):
    status, kind, title = 404, "user-not-found", "There is no such user"

    def __init__(self) -> None:
        super().__init__("There is no user with this id, so nothing was created.")


class SignInOff(Problem):
    """`me` where no tokens are checked, so that nobody is known (D31)."""

    status, kind, title = 404, "sign-in-off", "This server asks for no tokens"

    def __init__(self) -> None:
        super().__init__("So it does not know who `me` is. Put the user's id into the path instead.")


class AccountErased(Problem):
    """The token is valid until it expires, but its user or an operator has erased the account (D36)."""

    status, kind, title = 403, "account-erased", "The account was erased"

    def __init__(self) -> None:
        super().__init__("The account of this token's user was erased, so nothing is created for it any more.")


class Conflict(Problem):
    status, kind, title = 409, "conflict", "The request conflicts with what is stored"


class ChangesGone(Problem):
    """The cursor is from before what is remembered of deleted tasks, or from a state of the database that is lost."""

    status, kind, title = 410, "changes-gone", "The changes since this cursor are not known any more"

    def __init__(self) -> None:
        super().__init__(
            "Ask without a cursor, which begins with all tasks that there are, and put them in the place of your copy."
        )


class TaskDeleted(Problem):
    """A repeat of a create brings nothing back (D41)."""

    status, kind, title = 409, "task-deleted", "The task was deleted"

    def __init__(self) -> None:
        super().__init__(
            "A task with this id was deleted, so nothing was created. Restore it if it is still in the trash, or "
            "create a new task, with another id or key."
        )


class TooManyTasks(Problem):
    """Only the user can mend it. `Retry-After` is for clients that repeat each 429 by themselves, so that few come."""

    status, kind, title = 429, "too-many-tasks", "The user has too many tasks"
    counted_as = "tasks"

    def __init__(self, limit: int) -> None:
        detail = f"A user may have {limit:,} tasks, so nothing was created. Delete some that are done."
        super().__init__(detail, headers={"Retry-After": "60"})


class PreconditionFailed(Problem):
    status, kind, title = 412, "precondition-failed", "If-Match does not name the task as it is"

    def __init__(self, current: str, *, is_altered: bool = False) -> None:
        """`is_altered` if the current entity tag was sent, but not as it is."""
        changed = (
            f"The task is not, or no longer, in a version that If-Match names: its entity tag is {current}. Look "
            "at it as it is now, decide what to do about the change, and send this with the new entity tag."
        )
        altered = (
            f"The task has not changed. Its entity tag is {current}; If-Match has it as a weak one or with a suffix, "
            "as proxies make of it that compress answers, and those never match. Send it as it is here, and configure "
            "the proxy to leave it alone."
        )
        super().__init__(altered if is_altered else changed, headers={"ETag": current})

    @classmethod
    def of_item(cls, version: int) -> Self:
        """For an item of a batch, which has `if_version` instead of If-Match."""
        problem = cls(f'"{version}"')
        problem.detail = (
            f"The task is not, or no longer, in the version that `if_version` names: it is in version {version}. "
            "Decide what to do about the change, and send the item again with this version."
        )
        return problem
