"""The opaque `cursor` of a list: the end of the page before it, with a checksum over the list that it belongs to.

The checksum needs no secret. A cursor carries no authority, because the statement names the owner whatever it says; the
checksum only makes sure that a cursor that was cut off, altered or taken to another list is refused rather than misread
(docs/adr/0012-cursors.md).
"""

import struct
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import ceil
from typing import Any, ClassVar, Literal, override
from uuid import UUID

import orjson

from persistence.changes import Place
from persistence.models import TITLE_MAX_LENGTH, Priority, values_of
from persistence.task_lists import SortKey
from persistence.tasks import TaskRow
from todos.errors import InvalidInput

PATTERN = "^[A-Za-z0-9_-]+$"

_CHECKSUM_BYTES = 8
_ID_BYTES = 16
MAX_LENGTH = ceil((_CHECKSUM_BYTES + _ID_BYTES + 4 * TITLE_MAX_LENGTH) * 4 / 3)
"""Characters. A title of four-byte characters is the longest sort value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PLACE = struct.Struct(f">{_ID_BYTES}sqq")

type Position = tuple[Any, UUID]
"""The sort value and the id of the last task of a page."""


class _Cursors[P](ABC):
    """The cursors of one sequence of pages; they are good for no other."""

    refusal: ClassVar[str]

    def __init__(self, *identity: Any) -> None:
        self._identity = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)

    def encode(self, position: P) -> str:
        """At most `MAX_LENGTH` characters that need no escaping in a URL."""
        place = self._to_bytes(position)
        checksum = blake2b(place + self._identity, digest_size=_CHECKSUM_BYTES).digest()
        return urlsafe_b64encode(checksum + place).rstrip(b"=").decode()

    def decode(self, cursor: str) -> P:
        """The position that `encode` was given. Raises `InvalidInput` for any other text."""
        try:
            raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            position = self._from_bytes(raw[_CHECKSUM_BYTES:])
            if len(cursor) <= MAX_LENGTH and self.encode(position) == cursor:
                return position
        except (ValueError, OverflowError, struct.error):
            pass
        raise InvalidInput.of({"field": "cursor", "detail": self.refusal})

    @abstractmethod
    def _to_bytes(self, position: P) -> bytes: ...

    @abstractmethod
    def _from_bytes(self, raw: bytes) -> P:
        """May raise `ValueError`, `OverflowError` or `struct.error` for what no position becomes."""


class ListCursors(_Cursors[Position]):
    """The cursors of one list of one user, with its filters and its order; in the trash, the order is `deleted_at`."""

    refusal = (
        "This is not a cursor of this list; send `next_cursor` of the page before, unchanged, and with the same "
        "filters and the same sort"
    )

    def __init__(
        self, user_id: UUID, filters: Mapping[str, Any], sort: SortKey | Literal["deleted_at"], *, descending: bool
    ) -> None:
        super().__init__(user_id, sort, descending, filters)
        self._sort = sort

    def after(self, row: TaskRow) -> str:
        """The cursor of the page that follows the one that ends with this task."""
        return self.encode((row[self._sort], row["id"]))

    @override
    def _to_bytes(self, position: Position) -> bytes:
        value, task_id = position
        match value:
            case None:
                return task_id.bytes
            case datetime():
                return task_id.bytes + ((value - _EPOCH) // _MICROSECOND).to_bytes(8, signed=True)
        return task_id.bytes + str(value).encode()

    @override
    def _from_bytes(self, raw: bytes) -> Position:
        task_id, value = UUID(bytes=raw[:_ID_BYTES]), raw[_ID_BYTES:]
        if self._sort in ("priority", "title"):
            text = value.decode()
            if "\0" in text or (self._sort == "priority" and text not in values_of(Priority)):
                raise ValueError
            return text, task_id
        return _EPOCH + int.from_bytes(value, signed=True) * _MICROSECOND if value else None, task_id


class ChangeCursors(_Cursors[Place]):
    """The cursors of the changes of one user's tasks."""

    refusal = (
        "This is not a cursor of the changes of this user's tasks; send `next_cursor` of the answer before, unchanged, "
        "or none to begin anew"
    )

    def __init__(self, user_id: UUID) -> None:
        super().__init__(user_id, "changes")

    @override
    def _to_bytes(self, position: Place) -> bytes:
        return _PLACE.pack(position.task_id.bytes, position.version, position.since)

    @override
    def _from_bytes(self, raw: bytes) -> Place:
        task_id, version, since = _PLACE.unpack(raw)
        return Place(version, UUID(bytes=task_id), since)
