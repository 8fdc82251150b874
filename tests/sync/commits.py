"""What PostgreSQL has committed to the table of tasks, in the order of the commits, from its write-ahead log.

No client can see this order, and no query can tell it afterwards, so it is what everything else is held against.
"""

from collections.abc import Iterator
from struct import unpack_from
from typing import NamedTuple
from uuid import UUID

import psycopg

from tests.sync.rows import Row

SETTINGS = ("wal_level=logical",)
"""What PostgreSQL must be started with."""
NAME = "checker"
_OPEN = (
    f"CREATE PUBLICATION {NAME} FOR TABLE tasks",
    f"SELECT pg_create_logical_replication_slot('{NAME}', 'pgoutput')",
)
_READ = f"""
    SELECT data FROM pg_logical_slot_get_binary_changes('{NAME}', NULL, NULL, 'proto_version', '1', 'publication_names',
    '{NAME}')
"""
# The texts of values are as the reading session has them.
_OPTIONS = "-c timezone=UTC -c datestyle=ISO"


class Change(NamedTuple):
    """One row that a transaction has written; `row` is None if the row is gone."""

    commit: int
    """The number of the transaction in the order of commits."""
    user_id: UUID
    id: UUID
    row: Row | None


class Commits:
    """The log from here on. It survives restarts of PostgreSQL, but not a change to a standby."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._count = 0
        self._columns: list[str] = []
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for query in _OPEN:
                connection.execute(query.encode())

    def read(self) -> list[Change]:
        """The changes since the last call. Blocks."""
        with psycopg.connect(self._conninfo, autocommit=True, options=_OPTIONS) as connection:
            # The log is read as far as it is on the disk, which a commit need not wait for in tests.
            connection.execute(b"SET synchronous_commit = on")
            connection.execute(b"SELECT pg_logical_emit_message(true, '', '')")
            return list(self._decode(message for (message,) in connection.execute(_READ.encode())))

    def close(self) -> None:
        """Lets PostgreSQL forget its log."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [NAME])
            connection.execute(f"DROP PUBLICATION {NAME}".encode())

    def _decode(self, messages: Iterator[bytes]) -> Iterator[Change]:
        for message in messages:
            match message[:1]:
                case b"B":
                    self._count += 1
                case b"R":
                    self._columns = _columns(message)
                case b"I":
                    yield self._written(message, 5)
                case b"U" if message[5:6] == b"N":
                    yield self._written(message, 5)
                case b"U":
                    # The key comes first if it was changed.
                    _, end = self._values(message, 6)
                    yield self._written(message, end)
                case b"D":
                    values, _ = self._values(message, 6)
                    yield Change(self._count, UUID(values["user_id"]), UUID(values["id"]), None)
                case b"T":
                    raise AssertionError("the table of tasks was emptied")
                case _:
                    pass

    def _written(self, message: bytes, start: int) -> Change:
        values, _ = self._values(message, start + 1)
        row = Row.of_text(values)
        return Change(self._count, row.user_id, row.id, row)

    def _values(self, message: bytes, start: int) -> tuple[dict[str, str | None], int]:
        """The texts of a row by column, and where the row ends."""
        texts: list[str | None] = []
        [count], position = unpack_from(">H", message, start), start + 2
        for _ in range(count):
            kind, position = message[position : position + 1], position + 1
            assert kind in {b"t", b"n"}, f"a value of kind {kind!r} in {self._columns[len(texts)]}"
            if kind == b"n":
                texts.append(None)
                continue
            [length] = unpack_from(">I", message, position)
            position += 4 + length
            texts.append(message[position - length : position].decode())
        return dict(zip(self._columns, texts, strict=True)), position


def _columns(message: bytes) -> list[str]:
    """The names of a table's columns, as PostgreSQL sends them before its first row."""
    # The table's number, its schema and name, and how its rows are told apart.
    position = message.index(b"\0", message.index(b"\0", 5) + 1) + 2
    [count] = unpack_from(">H", message, position)
    position += 2
    names = []
    for _ in range(count):
        end = message.index(b"\0", position + 1)
        names.append(message[position + 1 : end].decode())
        # The type's number and its modifier.
        position = end + 9
    return names
