"""gunicorn on a database of its own, for tests of how it serves, starts and stops."""

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg

from persistence.postgres.dsn import Dsn
from persistence.postgres.opening import APPLICATION_NAME
from tests.support.databases import as_owner, new_user
from tests.support.issuer import Issuer
from tests.support.servers import ROOT, WebServer, url_of

WORKERS = 2
POOL_MAX = 6


def production(
    dsn: Dsn,
    folder: Path,
    *arguments: str,
    project: Path = ROOT,
    kind: type[WebServer] = WebServer,
    issuer: Issuer | None = None,
    **environment: str,
) -> WebServer:
    """A server that gives a request so much time that a busy machine cannot fail it.

    It asks for tokens if there is an issuer of them.
    """
    settings = {
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "DATABASE_URL": url_of(dsn),
        "DATABASE_POOL_MIN": "2",
        "DATABASE_POOL_MAX": str(POOL_MAX),
        "REQUEST_TIMEOUT": "60",
        "WEB_CONCURRENCY": str(WORKERS),
    }
    return kind(folder, settings | (issuer.settings if issuer else {}) | environment, *arguments, project=project)


@dataclass(frozen=True)
class Site:
    """A server, a user, and a database in which every other connection is the server's."""

    web: WebServer
    user: UUID
    dsn: Dsn

    @property
    def tasks(self) -> str:
        return f"/{self.user}/tasks"

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.web.process.pid).children()

    @property
    def listening(self) -> int:
        """The workers that have ever been ready to serve."""
        return self.web.log.count("ASGI server listening")

    @property
    def started(self) -> int:
        """The workers that have ever begun to start."""
        return self.web.log.count("Booting worker")

    def connections_of_clients(self) -> int:
        """The connections of clients that the workers have open."""
        sockets = [each for worker in self.workers for each in worker.net_connections("tcp")]
        return sum(bool(each.raddr) and each.laddr.port == self.web.port for each in sockets)

    def titles(self, user: UUID | None = None) -> list[str]:
        """The user's live tasks in the database, in alphabetical order."""
        query = "SELECT title FROM tasks WHERE user_id = %s AND deleted_at IS NULL ORDER BY title"
        return [title for (title,) in self._fetch(query, user or self.user)]

    def new_user(self) -> UUID:
        [(user,)] = self._fetch("INSERT INTO users (id) VALUES (gen_random_uuid()) RETURNING id")
        return UUID(str(user))

    def connection_states(self) -> Counter[str]:
        query = "SELECT state FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
        return Counter(state for (state,) in self._fetch(query, APPLICATION_NAME))

    def waiting_for_locks(self) -> int:
        """The statements that `locked_tasks` holds up."""
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return len(self._fetch(query))

    def _fetch(self, query: str, *values: object) -> list[tuple[str, ...]]:
        with psycopg.connect(as_owner(self.dsn).conninfo) as connection:
            return connection.execute(query.encode(), values).fetchall()

    @contextmanager
    def locked_tasks(self) -> Iterator[None]:
        """Holds up every write of a task until the end of the block."""
        with psycopg.connect(as_owner(self.dsn).conninfo) as connection:
            connection.execute("LOCK TABLE tasks IN EXCLUSIVE MODE")
            yield

    def assert_calm(self, before: str = "") -> None:
        """The server has logged nothing that an operator should look at, since its log was `before`."""
        log = self.web.log.removeprefix(before)
        assert not any(word in log for word in ("Traceback", "WARNING", "ERROR", "CRITICAL", "Forcing close")), log


@contextmanager
def running_site(dsn: Dsn, folder: Path, *arguments: str, **settings: Any) -> Iterator[Site]:
    with production(dsn, folder, *arguments, **settings) as web:
        yield Site(web, new_user(dsn), dsn)


@contextmanager
def gated_site(dsn: Dsn, folder: Path, *arguments: str, project: Path = ROOT) -> Iterator[tuple[Site, Path]]:
    """A server with the file that holds up its workers while they start, as long as a test has it locked."""
    gate = folder / "gate"
    gate.touch()
    settings = {"project": project, "GATE": str(gate), "PYTHONPATH": str(ROOT)}
    with running_site(dsn, folder, *arguments, "tests.support.gated:application", **settings) as site:
        yield site, gate


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def raw_post(user: UUID, title: str) -> bytes:
    body = b'{"title": "%s"}' % title.encode()
    return (
        b"POST /api/%s/tasks HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (str(user).encode(), len(body), body)
    )
