"""The files of the interactive documentation, from Ninja's package, so that a page asks no other host for anything."""

import mimetypes
from functools import cache
from pathlib import Path

import ninja
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from web.problems import PathNotFound, render

_FOLDER = Path(ninja.__file__).parent / "static" / "ninja"


@cache
def _files() -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in (".js", ".css", ".svg", ".png")
    }


@require_safe
async def asset(_request: HttpRequest, name: str) -> HttpResponse:
    content = _files().get(name)
    if content is None:
        return render(PathNotFound())
    return HttpResponse(
        content,
        content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        headers={"Cache-Control": "public, max-age=86400"},
    )
