"""The API: its routers, how it reads JSON, and how it answers errors."""

from typing import Any, override

from django.http import HttpRequest, HttpResponse
from django.urls import register_converter
from django.urls.converters import StringConverter
from django.utils.http import parse_header_parameters
from django.views.decorators.http import require_safe
from ninja import NinjaAPI, Swagger
from ninja.parser import Parser

from todos.api import router as tasks
from todos.changes import router as changes
from todos.health import router as health
from todos.me import router as me
from todos.requests import JSON_TYPES, PATCH_TYPES
from todos.transfers import router as transfers
from todos.trash import router as trash
from web import errors, strict_json
from web.body_limits import body_limits
from web.headers import Page
from web.openapi import DESCRIPTION, VERSION, TodoAPI
from web.problems import UnsupportedMediaType

_CONTENT_TYPE_MAX = 200
"""Characters: taking 8,000 semicolons apart took 10 ms."""
_CHARSETS = ("utf-8", "utf8", "us-ascii")


class Segment(StringConverter):
    """One segment of a path, empty ones included, so that an empty id is answered as an invalid one (D3)."""

    regex = "[^/]*"


class TaskId(StringConverter):
    """What is no word that stands in the place of a task's id. So the paths of single tasks can be tried first."""

    regex = r"(?!(?:batch|changes|summary)\Z)[^/]+"


class StrictParser(Parser):
    """Reads a body as strict JSON, and only when it is sent as JSON."""

    @override
    def parse_body(self, request: HttpRequest) -> Any:
        accepted = PATCH_TYPES if request.method == "PATCH" else JSON_TYPES
        if coding := request.headers.get("Content-Encoding"):
            raise UnsupportedMediaType(f"Content-Encoding: {coding}", accepted)
        sent = request.headers.get("Content-Type", "")
        try:
            content_type, parameters = parse_header_parameters(sent, _CONTENT_TYPE_MAX)
        except ValueError:
            raise UnsupportedMediaType("one that cannot be read", accepted) from None
        if content_type not in accepted:
            raise UnsupportedMediaType(sent, accepted)
        charset = parameters.get("charset", "utf-8")
        if charset.lower() not in _CHARSETS:
            raise UnsupportedMediaType(f"in the charset {charset}: only UTF-8 is understood", accepted)
        match = request.resolver_match
        assert match
        return strict_json.parse(request.body, body_limits(match).marks)


class Documentation(Swagger):
    """The interactive documentation, as a page of ours."""

    @override
    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        return Page(super().render_page(request, api, **kwargs).content)


register_converter(Segment, "segment")
register_converter(TaskId, "task")

api = TodoAPI(
    title="Todo API",
    version=VERSION,
    description=DESCRIPTION,
    docs=Documentation(settings={"persistAuthorization": False, "tryItOutEnabled": True}),
    docs_decorator=require_safe,
    parser=StrictParser(),
    urls_namespace="api",
)
errors.register(api)
# Most requests are for tasks, and Django tries paths in order.
api.add_router("", tasks)
api.add_router("", changes)
api.add_router("", transfers)
api.add_router("", trash)
api.add_router("/v1", me)
api.add_router("/v1", health)
