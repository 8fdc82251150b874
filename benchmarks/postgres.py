"""A PostgreSQL of the benchmark's own, on a port of 127.0.0.1, gone when it is done."""

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
    # What is measured is servers and statements, not how fast this disk can flush.
    "synchronous_commit=off",
    # Work of its own accord would count for whoever has his turn; the benchmark vacuums between turns.
    "autovacuum=off",
    "checkpoint_timeout=1h",
    "max_wal_size=4GB",
)


@dataclass(frozen=True)
class Postgres:
    port: int
    process_id: int

    @property
    def dsn(self) -> Dsn:
        return Dsn.parse(address(self.port))


def address(port: int) -> str:
    """What to connect to through this port of 127.0.0.1, be it the server's or a proxy's."""
    return f"postgresql://postgres@127.0.0.1:{port}/{embedded_postgres.DATABASE}"


@contextmanager
def temporary(*settings: str) -> Iterator[Postgres]:
    """A server with our schema and no rows; `settings` are `name=value` beyond `SETTINGS`."""
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-") as folder:
        port = free_port()
        server = TcpServer(Path(folder).resolve() / "postgres", port, (*SETTINGS, *settings))
        server.folder.mkdir(mode=0o700)
        server.start()
        try:
            process_id = int((server.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
            postgres = Postgres(port, process_id)
            migrator.migrate(postgres.dsn)
            yield postgres
        finally:
            server.stop()
