"""A server to attack, and the state that it must be in afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg

from persistence.development import embedded_postgres
from persistence.postgres.dsn import Dsn
from tests.support.databases import SERVER, as_owner, execute, migrate_and_grant
from tests.support.servers import WebServer, eventually, url_of

WORKERS = 2


@contextmanager
def site() -> Iterator[tuple[WebServer, Dsn]]:
    """A server as in production, with a database of its own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with embedded_postgres.running(folder / "postgres", ["fsync=off"]) as owner:
            execute(owner, f"CREATE ROLE {SERVER} LOGIN")
            dsn = Dsn(owner.parameters | {"user": SERVER})
            migrate_and_grant(dsn)
            with web_server(folder, dsn) as web:
                yield web, dsn


def web_server(folder: Path, dsn: Dsn) -> WebServer:
    """A server that has more time for a request before it answers 503, as the machine may be busy."""
    settings = {
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "DATABASE_URL": url_of(dsn),
        "REQUEST_TIMEOUT": "30",
    }
    return WebServer(folder, settings | {"WEB_CONCURRENCY": str(WORKERS)})


def harm(web: WebServer, dsn: Dsn) -> list[str]:
    """Returns what the attack left behind, in words."""
    found = []
    if web.http.get("/v1/health").status_code != 200:
        found.append("The server is not healthy")
    if "Traceback" in web.log:
        found.append(f"The server logged a failure:\n{web.log}")
    if web.log.count("Booting worker") != WORKERS:
        found.append(f"A worker was replaced:\n{web.log}")
    try:
        # The server needs time to see that the last clients have gone.
        eventually(lambda: not _connections(web))
    except AssertionError:
        found.append(f"{_connections(web)} connections of clients are still open")
    query = (
        "SELECT state FROM pg_stat_activity"
        " WHERE application_name = 'todo' AND datname = current_database() AND state <> 'idle'"
    )
    with psycopg.connect(as_owner(dsn).conninfo, autocommit=True) as connection:
        try:
            # A request may still be at its end when its client has gone.
            eventually(lambda: not connection.execute(query).fetchall())
        except AssertionError:
            found.append(f"Connections to the database are in use: {connection.execute(query).fetchall()}")
    return found


def _connections(web: WebServer) -> int:
    """The number of its clients' connections that the server has open."""
    workers = psutil.Process(web.process.pid).children()
    sockets = [socket for worker in workers for socket in worker.net_connections("tcp")]
    return sum(bool(socket.raddr) and socket.laddr.port == web.port for socket in sockets)
