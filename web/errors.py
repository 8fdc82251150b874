"""Exceptions as problems: the one place that decides what a client hears of an error."""

import logging
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from persistence.postgres.errors import (
    ConstraintViolated,
    InvalidValue,
    OutcomeUnknown,
    PoolTimeout,
    SchemaMismatch,
    Unavailable,
    UniqueViolated,
    for_log,
)
from persistence.tasks import VALUES, VersionChanged
from todos.errors import Conflict, FieldError, InvalidInput, PreconditionFailed, Problem
from todos.etags import etag, is_altered
from todos.faults import field_error
from todos.refusals import problem_of
from todos.requests import Request
from web.observation import COUNTS
from web.problems import (
    InternalError,
    PathNotFound,
    SchemaMismatched,
    ServiceUnavailable,
    WriteOutcomeUnknown,
    render,
)

logger = logging.getLogger(__name__)


def translate(error: Exception, request_id: str, if_match: str = "") -> Problem:
    """The problem that tells a client about any error; an unexpected one is logged with the request id."""
    error = problem_of(error) or error
    _count(error)
    match error:
        case Problem():
            return error
        case ValidationError():
            return InvalidInput.of(*(_field_error(fault) for fault in error.errors))
        case Http404():
            return PathNotFound()
        case HttpError() if isinstance(error.__cause__, Problem):
            # Ninja wraps whatever goes wrong while it parses a body.
            return error.__cause__
        case OutcomeUnknown():
            logger.warning("Answering 503: %s", for_log(error))
            return WriteOutcomeUnknown(str(error), error.retry_after)
        case SchemaMismatch():
            logger.error("Answering 503: %s", for_log(error))
            return SchemaMismatched(str(error), error.retry_after)
        case Unavailable():
            logger.warning("Answering 503: %s", for_log(error))
            return ServiceUnavailable(str(error), error.retry_after)
        case VersionChanged():
            version = error.current["version"]
            return PreconditionFailed(etag(version), is_altered=is_altered(version, if_match))
        case UniqueViolated():
            return Conflict(f"This breaks the rule {error.constraint}.")
        case ConstraintViolated():
            return InvalidInput.of({"field": _field(error.constraint), "detail": f"It breaks {error.constraint}"})
        case InvalidValue():
            return InvalidInput.of({"field": "body", "detail": str(error)})
        case SuspiciousOperation():
            return InvalidInput.of({"field": "query", "detail": "There are too many parameters"})
    logger.error("Unexpected %s", type(error).__name__, exc_info=error)
    return InternalError(request_id)


def _count(error: Exception) -> None:
    match error:
        case Problem() if error.counted_as:
            COUNTS.refused[error.counted_as] += 1
        case PoolTimeout():
            COUNTS.refused["busy"] += 1
        case OutcomeUnknown():
            COUNTS.outcomes_unknown += 1


def register(api: NinjaAPI) -> None:
    """Makes Ninja answer every exception of an endpoint with a problem. A plain function, as Ninja awaits none."""

    def answer(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
        assert isinstance(request, Request)
        assert isinstance(error, Exception)
        return render(translate(error, request.request_id, request.META.get("HTTP_IF_MATCH", "")))

    # Ninja has handlers of its own for the last three, which would win over the one for Exception.
    kinds: tuple[type[Exception], ...] = (Exception, HttpError, ValidationError, Http404)
    for kind in kinds:
        api.add_exception_handler(kind, answer)


def _field(constraint: str) -> str:
    """The field that a constraint is about: its name has it, by the naming convention."""
    return next((name for name in VALUES if name in constraint), "body")


def _field_error(fault: dict[str, Any]) -> FieldError:
    """Ninja's place of a fault is ("body", name of the argument, path...) or ("path", name).

    Of one value of a repeated parameter it is ("query", name of the argument, name, number).
    """
    source, *place = fault["loc"]
    if source == "body":
        place = place[1:]
    elif len(place) > 1:
        place = place[1:2]
    return field_error(place, fault)
