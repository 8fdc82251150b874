"""What PostgreSQL has committed to the table of tasks, in the order of the commits, from its write-ahead log.

No client can see this order, and no query can tell it afterwards, so it is what everything else is held against.
"""

from collections.abc import Iterator, Sequence
from struct import iter_unpack, unpack_from
from typing import NamedTuple
from uuid import UUID

import psycopg

from tests.sync.rows import Row

SETTINGS = ("wal_level=logical",)
"""What PostgreSQL must be started with."""
NAME = "checker"
_READ = f"""
    SELECT data FROM pg_logical_slot_get_binary_changes('{NAME}', NULL, NULL, 'proto_version', '1', 'publication_names',
    '{NAME}', 'origin', 'none')
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
    """The log from here on. It survives restarts of PostgreSQL, but not a change to a standby.

    With `shards` it is that of a node of Citus, where the table of tasks is in tables `tasks_102008` and so on.
    """

    def __init__(self, conninfo: str, *, shards: bool = False) -> None:
        self._conninfo = conninfo
        self._count = 0
        self._tables: dict[int, tuple[str, list[str]]] = {}
        """The name and the columns of each table, by its number."""
        with psycopg.connect(conninfo, autocommit=True) as connection:
            if shards:
                # Each node has shards of its own.
                connection.execute(b"SET citus.enable_ddl_propagation = off")
            tables = "ALL TABLES" if shards else "TABLE tasks"
            connection.execute(f"CREATE PUBLICATION {NAME} FOR {tables}".encode())
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [NAME])

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
            # Accepted by any PostgreSQL, as its name has a dot.
            connection.execute(b"SET citus.enable_ddl_propagation = off")
            connection.execute(f"DROP PUBLICATION {NAME}".encode())

    def _decode(self, messages: Iterator[bytes]) -> Iterator[Change]:
        for message in messages:
            if message[:1] == b"B":
                self._count += 1
            elif message[:1] == b"R":
                self._tables[_number(message)] = _table(message)
            elif message[:1] == b"T":
                emptied = (self._tables[each][0] for (each,) in iter_unpack(">I", message[6:]))
                assert not any(map(_is_of_tasks, emptied)), "the table of tasks was emptied"
            elif message[:1] in {b"I", b"U", b"D"}:
                name, columns = self._tables[_number(message)]
                if _is_of_tasks(name):
                    yield self._change(message, columns)

    def _change(self, message: bytes, columns: list[str]) -> Change:
        if message[:1] == b"D":
            values, _ = _values(message, 6, columns)
            return Change(self._count, UUID(values["user_id"]), UUID(values["id"]), None)
        # The key comes first if it was changed.
        start = 5 if message[5:6] == b"N" else _values(message, 6, columns)[1]
        values, _ = _values(message, start + 1, columns)
        row = Row.of_text(values)
        return Change(self._count, row.user_id, row.id, row)


class SpreadCommits:
    """The logs of all nodes of a spread database as one.

    The commits of one owner are in the log of the node that has its shard, and after a move in that of another node.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._logs = [Commits(conninfo, shards=True) for conninfo in nodes]
        self._changes: list[Change] = []
        self._seen: dict[tuple[UUID, UUID, int], Row] = {}

    def follow(self, source: int, target: int) -> None:
        """Reads the logs of two nodes, given by their places, after a move of a shard, and before the next. Blocks."""
        for place in (source, target):
            self._changes += self._new(self._logs[place].read())

    def read(self) -> list[Change]:
        """All changes from the beginning on. Blocks."""
        for log in self._logs:
            self._changes += self._new(log.read())
        return self._changes

    def close(self) -> None:
        for log in self._logs:
            log.close()

    def _new(self, changes: list[Change]) -> Iterator[Change]:
        """Leaves out the rows that a move has copied, which were committed at the other node before."""
        for change in changes:
            if (row := change.row) is not None:
                first = self._seen.setdefault((row.user_id, row.id, row.version), row)
                if first is not row and first == row:
                    continue
            yield change


def _is_of_tasks(table: str) -> bool:
    return table == "tasks" or table.startswith("tasks_")


def _number(message: bytes) -> int:
    """The number of the table that a message is about."""
    [number] = unpack_from(">I", message, 1)
    return int(number)


def _values(message: bytes, start: int, columns: list[str]) -> tuple[dict[str, str | None], int]:
    """The texts of a row by column, and where the row ends."""
    texts: list[str | None] = []
    [count], position = unpack_from(">H", message, start), start + 2
    for _ in range(count):
        kind, position = message[position : position + 1], position + 1
        assert kind in {b"t", b"n"}, f"a value of kind {kind!r} in {columns[len(texts)]}"
        if kind == b"n":
            texts.append(None)
            continue
        [length] = unpack_from(">I", message, position)
        position += 4 + length
        texts.append(message[position - length : position].decode())
    return dict(zip(columns, texts, strict=True)), position


def _table(message: bytes) -> tuple[str, list[str]]:
    """The name of a table and those of its columns, as PostgreSQL sends them before its first row."""
    # The table's number and its schema come before its name, and then how its rows are told apart.
    start = message.index(b"\0", 5) + 1
    end = message.index(b"\0", start)
    position = end + 2
    [count] = unpack_from(">H", message, position)
    position += 2
    columns = []
    for _ in range(count):
        last = message.index(b"\0", position + 1)
        columns.append(message[position + 1 : last].decode())
        # The type's number and its modifier.
        position = last + 9
    return message[start:end].decode(), columns
