"""The opaque `cursor` of a list: the end of the page before it, with a checksum over the list that it belongs to.

The checksum needs no secret. A cursor carries no authority, because the statement names the owner whatever it says; the
checksum only makes sure that a cursor that was cut off, altered or taken to another list is refused rather than misread
(docs/adr/0012-cursors.md).
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import ceil
from typing import Any
from uuid import UUID

import orjson

from persistence.models import TITLE_MAX_LENGTH, Priority, values_of
from persistence.task_lists import SortKey
from todos.errors import InvalidInput

PATTERN = "^[A-Za-z0-9_-]+$"

_CHECKSUM_BYTES = 8
_ID_BYTES = 16
MAX_LENGTH = ceil((_CHECKSUM_BYTES + _ID_BYTES + 4 * TITLE_MAX_LENGTH) * 4 / 3)
"""Characters. A title of four-byte characters is the longest sort value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

type Position = tuple[Any, UUID]
"""The sort value and the id of the last task of a page."""


class ListCursors:
    """The cursors of one list of one user, with its filters and its order; they are good for no other list."""

    def __init__(self, user_id: UUID, filters: Mapping[str, Any], sort: SortKey, *, descending: bool) -> None:
        self._sort = sort
        self._identity = orjson.dumps([user_id, sort, descending, filters], option=orjson.OPT_SORT_KEYS)

    def encode(self, position: Position) -> str:
        """At most `MAX_LENGTH` characters that need no escaping in a URL."""
        value, task_id = position
        place = task_id.bytes + self._to_bytes(value)
        return urlsafe_b64encode(self._checksum(place) + place).rstrip(b"=").decode()

    def decode(self, cursor: str) -> Position:
        """The position that `encode` was given. Raises `InvalidInput` for any other text."""
        try:
            raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            checksum, place = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
            position = self._from_bytes(place[_ID_BYTES:]), UUID(bytes=place[:_ID_BYTES])
            if len(cursor) <= MAX_LENGTH and checksum == self._checksum(place) and self.encode(position) == cursor:
                return position
        except (ValueError, OverflowError):
            pass
        raise InvalidInput.of(
            {
                "field": "cursor",
                "detail": "This is not a cursor of this list; send `next_cursor` of the page before, unchanged, and "
                "with the same filters and the same sort",
            }
        )

    def _checksum(self, place: bytes) -> bytes:
        return blake2b(place + self._identity, digest_size=_CHECKSUM_BYTES).digest()

    def _to_bytes(self, value: Any) -> bytes:
        match value:
            case None:
                return b""
            case datetime():
                return ((value - _EPOCH) // _MICROSECOND).to_bytes(8, signed=True)
        return str(value).encode()

    def _from_bytes(self, raw: bytes) -> Any:
        if self._sort in ("priority", "title"):
            value = raw.decode()
            if "\0" in value or (self._sort == "priority" and value not in values_of(Priority)):
                raise ValueError
            return value
        return _EPOCH + int.from_bytes(raw, signed=True) * _MICROSECOND if raw else None
