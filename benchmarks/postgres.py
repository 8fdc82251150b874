"""A temporary PostgreSQL server for one study, on a port of 127.0.0.1."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persistence import migrator
from persistence.development import embedded_postgres
from persistence.postgres.dsn import Dsn
from tests.support.processes import TcpServer, free_port

SETTINGS = (
    "max_connections=200",
    "shared_buffers=256MB",
    # The studies measure servers and statements, not how fast this disk can flush.
    "synchronous_commit=off",
    # Background work would count for the contender that is being measured; the benchmark vacuums between measurements.
    "autovacuum=off",
    "checkpoint_timeout=1h",
    "max_wal_size=4GB",
)


@dataclass(frozen=True)
class Postgres:
    port: int
    process_id: int
    server: TcpServer

    @property
    def dsn(self) -> Dsn:
        return Dsn.parse(address(self.port))


def address(port: int) -> str:
    """Returns the database's URL at this port of 127.0.0.1, which is the server's or that of a proxy."""
    return f"postgresql://postgres@127.0.0.1:{port}/{embedded_postgres.DATABASE}"


@contextmanager
def temporary(*settings: str, is_empty: bool = False) -> Iterator[Postgres]:
    """Runs a server with the project's schema and no rows; `settings` are `name=value` and add to `SETTINGS`.

    With `is_empty` it has no schema.
    """
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-") as folder:
        port = free_port()
        server = TcpServer(Path(folder).resolve() / "postgres", port, (*SETTINGS, *settings))
        server.folder.mkdir(mode=0o700)
        server.start()
        try:
            process_id = int((server.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
            postgres = Postgres(port, process_id, server)
            if not is_empty:
                migrator.migrate(postgres.dsn)
            yield postgres
        finally:
            server.stop()
