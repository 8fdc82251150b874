"""The problem of each write or read that persistence refuses, whichever endpoint asked for it."""

from django.conf import settings

from persistence.changes import Gone
from persistence.tasks import AlreadyDeleted, OwnerErased, TooMany
from todos.errors import AccountErased, ChangesGone, Problem, TaskDeleted, TooManyTasks


def problem_of(error: Exception) -> Problem | None:
    """None for an error that is no refusal, or about a condition, which is told in the terms of its request."""
    match error:
        case AlreadyDeleted():
            return TaskDeleted()
        case OwnerErased():
            return AccountErased()
        case TooMany():
            return TooManyTasks(settings.USER_TASKS_MAX)
        case Gone():
            return ChangesGone()
    return None
