"""gunicorn on a database of its own, for tests of how it serves, starts and stops."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import psycopg

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.conftest import _drop_database, _make_database
from tests.support.servers import WebServer, url_of

WORKERS = 2
POOL_MAX = 6


def production(dsn: Dsn, folder: Path, *arguments: str, **environment: str) -> WebServer:
    settings = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": url_of(dsn),
        "DATABASE_POOL_MIN": "2",
        "DATABASE_POOL_MAX": str(POOL_MAX),
        "WEB_CONCURRENCY": str(WORKERS),
    }
    return WebServer(folder, settings | environment, *arguments)


def new_user(dsn: Dsn) -> UUID:
    user_id = uuid4()
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user_id, f"{user_id}@example.com"])
    return user_id


@dataclass(frozen=True)
class Site:
    """A server, a user, and a database of their own, so that every other connection to it is the server's."""

    web: WebServer
    user: UUID
    dsn: Dsn

    @property
    def tasks(self) -> str:
        return f"/{self.user}/tasks"

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.web.process.pid).children()

    def titles(self) -> list[str]:
        """The user's tasks in the database, in alphabetical order."""
        with psycopg.connect(self.dsn.conninfo) as connection:
            query = "SELECT title FROM tasks WHERE user_id = %s ORDER BY title"
            return [title for (title,) in connection.execute(query, [self.user])]


@contextmanager
def made_site(server: Dsn, folder: Path, *arguments: str) -> Iterator[Site]:
    """On a new database of this PostgreSQL."""
    dsn = _make_database(server)
    migrator.migrate(dsn)
    with production(dsn, folder, *arguments) as web:
        yield Site(web, new_user(dsn), dsn)
    _drop_database(server, dsn)


def states_of_connections(dsn: Dsn) -> Counter[str]:
    with psycopg.connect(dsn.conninfo) as connection:
        query = "SELECT state FROM pg_stat_activity WHERE application_name = 'todo' AND datname = %s"
        return Counter(state for (state,) in connection.execute(query, [dsn.database]))


@contextmanager
def locked_tasks(dsn: Dsn) -> Iterator[None]:
    """Nobody can write a task until the end of the block."""
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute("LOCK TABLE tasks IN EXCLUSIVE MODE")
        yield


def is_waiting_for_lock(dsn: Dsn) -> bool:
    with psycopg.connect(dsn.conninfo) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
        return connection.execute(query, [dsn.database]).fetchone() is not None


def raw_post(user: UUID, title: str) -> bytes:
    body = b'{"title": "%s"}' % title.encode()
    return (
        b"POST /api/%s/tasks HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (str(user).encode(), len(body), body)
    )
