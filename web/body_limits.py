"""How large a body may be, and a batch, which may be larger (docs/adr/0024-bounds-of-one-request.md)."""

from typing import NamedTuple

from django.conf import settings
from django.urls import ResolverMatch

from web.strict_json import MARKS_MAX


class BodyLimits(NamedTuple):
    """`size` is in bytes, `marks` are commas and opening brackets."""

    size: int
    marks: int


USUAL = BodyLimits(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, MARKS_MAX)
# 100 tasks with the longest texts and most tags are 650 kB in UTF-8, and with tags and prose they have 5,500 marks.
BATCH = BodyLimits(1024 * 1024, 20_000)
_LARGER = {"api/<segment:user_id>/tasks/batch": BATCH}


def body_limits(match: ResolverMatch) -> BodyLimits:
    return _LARGER.get(match.route, USUAL)
