"""The opaque `cursor` of a list: where the page before it ended."""

import struct
from base64 import b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

from todos.errors import InvalidInput

_FORM = struct.Struct(">q16s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode(created_at: datetime, task_id: UUID) -> str:
    """32 characters that need no escaping in a URL."""
    return urlsafe_b64encode(_FORM.pack((created_at - _EPOCH) // _MICROSECOND, task_id.bytes)).decode()


def decode(cursor: str) -> tuple[datetime, UUID]:
    """The creation time and id that `encode` was given. Raises `InvalidInput` for anything else."""
    try:
        microseconds, task_id = _FORM.unpack(b64decode(cursor, altchars=b"-_", validate=True))
        return _EPOCH + microseconds * _MICROSECOND, UUID(bytes=task_id)
    except (ValueError, struct.error, OverflowError):
        raise InvalidInput.of(
            {"field": "cursor", "detail": "This is no cursor; send `next_cursor` of the page before, unchanged"}
        ) from None
