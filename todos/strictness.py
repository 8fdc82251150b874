"""Refuses what an operation would otherwise ignore: a client that sends it expects something of it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import wraps
from itertools import chain, islice
from typing import Any
from urllib.parse import unquote_to_bytes

from django.http import HttpRequest, HttpResponse
from django.http.request import HttpHeaders

from todos.errors import ERRORS_SHOWN, FieldError, InvalidInput

type _Run = Callable[..., Awaitable[HttpResponse]]


def strict(run: _Run) -> _Run:
    """Refuses unknown query parameters, repeats of those that have one value, and headers that are not looked at.

    A decorator for Ninja operations in the mode "view". Ninja ignores the first and the last, and takes the last one
    of repeated values.
    """
    operation: Any = getattr(run, "__self__")  # noqa: B009 - a bound method; the type checker knows only a callable
    names: dict[str, dict[str, bool]] = {"query": {}, "header": {}}
    for model in operation.models:
        if model.__ninja_param_source__ in names:
            repeatable = model.__ninja_collection_fields__
            names[model.__ninja_param_source__] |= {name: name in repeatable for name in model.__ninja_flatten_map__}
    # Where there is no entity tag, If-None-Match has no effect by definition (RFC 9110, section 13.1.2).
    conditions = {"If-Match"} | (set() if operation.methods == ["GET"] else {"If-None-Match"})
    refused = dict.fromkeys(conditions, "This request cannot be made conditional in this way; leave it out")
    if operation.methods == ["POST"]:
        refused["Idempotency-Key"] = "A key is for a request that makes one change; leave it out"
    unknown = sorted(refused.keys() - names["header"].keys())
    ignored = {HttpHeaders.to_wsgi_name(name): (name, refused[name]) for name in unknown}

    @wraps(run)
    async def wrapper(request: HttpRequest, **values: Any) -> HttpResponse:
        faults = chain(_in_query(request, names["query"]), _in_headers(request, ignored))
        if found := list(islice(faults, ERRORS_SHOWN)):
            raise InvalidInput.of(*found)
        return await run(request, **values)

    return wrapper


def _in_query(request: HttpRequest, names: Mapping[str, bool]) -> Iterator[FieldError]:
    if not request.META["QUERY_STRING"]:
        return
    parameters = dict(request.GET.lists())
    # What is not UTF-8 has become U+FFFD, which is rare, and looking twice at each percent sign takes long.
    if "\ufffd" in repr(parameters) and not _is_utf8(request.META["QUERY_STRING"]):
        yield {"field": "query", "detail": "The query string is not UTF-8"}
        return
    for name, given in parameters.items():
        if name not in names:
            known = f"there are {', '.join(names)}" if names else "there are none here"
            yield {"field": name, "detail": f"There is no such parameter; {known}"}
        elif len(given) > 1 and not names[name]:
            yield {"field": name, "detail": "This may be given only once"}


def _is_utf8(query: str) -> bool:
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_headers(request: HttpRequest, ignored: Mapping[str, tuple[str, str]]) -> Iterator[FieldError]:
    for key, (name, detail) in ignored.items():
        if key in request.META:
            yield {"field": name, "detail": detail}
