"""How large a body may be, and a batch and a file, which may be larger (docs/adr/0024-bounds-of-one-request.md)."""

from typing import NamedTuple

from django.conf import settings
from django.urls import ResolverMatch

from persistence.postgres.gate import Gate
from web.strict_json import MARKS_MAX


class BodyLimits(NamedTuple):
    """`size` is in bytes, `marks` are commas and opening brackets."""

    size: int
    marks: int
    seconds: float | None = None
    """In which it must arrive whole, if not in those of `web/handler.py`."""
    places: Gate | None = None
    """For bodies so large that only a few may be in memory at once, and one of a user."""


USUAL = BodyLimits(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, MARKS_MAX)
# 100 tasks with the longest texts and most tags are 650 kB in UTF-8, and with tags and prose they have 5,500 marks.
BATCH = BodyLimits(1024 * 1024, 20_000)
# 10,000 tasks of 1,000 bytes, in a minute by 1.4 Mbit/s. Each takes up to some 70 MB: its bytes, its text of up to four
# bytes a character, and the tasks that are in it. Its parser counts the marks.
FILE = BodyLimits(
    10 * 1024 * 1024, 0, 60.0, Gate(2, "Too many imports are being made at once, or one of this user is.")
)
_LARGER = {"api/<segment:user_id>/tasks/batch": BATCH, "api/<segment:user_id>/import": FILE}


def body_limits(match: ResolverMatch) -> BodyLimits:
    return _LARGER.get(match.route, USUAL)
