"""A rolling upgrade from the code before revision 0013, whose servers go on serving until 0016 ends it."""

import io
import subprocess
import tarfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, override
from uuid import UUID

import httpx
import pytest

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.databases import new_user
from tests.support.servers import ROOT, WebServer, eventually, url_of

pytestmark = pytest.mark.slow

OLDER = "3f9065e"
"""The last commit whose code knows no revision after 0012."""
ROUND = 20
"""Writes of each client before the next step."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the older code, which runs with the packages of today."""
    archive = subprocess.run(["git", "archive", OLDER], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("this copy of the project has no history")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


class Client(threading.Thread):
    """Creates, changes, lists and deletes tasks, one request after the other, and ends at an answer that is an error.

    `titles` are those of the tasks that it should have.
    """

    def __init__(self, http: httpx.Client, user_id: UUID) -> None:
        super().__init__(daemon=True)
        self.http = http
        self.user_id = user_id
        self.titles: dict[str, str] = {}
        self.rounds = 0
        self.must_stop = threading.Event()
        self.error: Exception | None = None

    @override
    def run(self) -> None:
        try:
            while not self.must_stop.is_set():
                self._write()
                self.rounds += 1
        except (AssertionError, httpx.HTTPError) as error:
            self.error = error

    def _write(self) -> None:
        made = self._ask("POST", "tasks", json={"title": f"Task {self.rounds}", "tags": ["a"]})
        changed = self._ask("PATCH", f"tasks/{made['id']}", json={"title": f"Changed {self.rounds}"})
        self.titles[changed["id"]] = changed["title"]
        assert self.listed() == self.titles
        if self.rounds % 3:
            self._ask("DELETE", f"tasks/{made['id']}")
            del self.titles[made["id"]]
        assert self._ask("GET", "tasks/summary")["total"] == len(self.titles)

    def _ask(self, method: str, path: str, json: dict[str, Any] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.request(method, path, json=json).raise_for_status().json()
        return answer

    def listed(self, path: str = "tasks") -> dict[str, str]:
        items = self.http.get(path, params={"limit": 500}).raise_for_status().json()["items"]
        return {task["id"]: task["title"] for task in items}


def test_servers_of_both_releases_serve_while_the_database_is_migrated_and_the_last_step_ends_old_cursors(
    empty_dsn: Dsn, older: Path, tmp_path: Path
) -> None:
    environment = {
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "DATABASE_URL": url_of(empty_dsn),
        "REQUEST_TIMEOUT": "60",
    }
    migrator.migrate(empty_dsn, "0012")
    clients: list[Client] = []

    def start(web: WebServer) -> None:
        user_id = new_user(empty_dsn)
        http = httpx.Client(base_url=f"{web.url}/api/{user_id}/", timeout=60, trust_env=False)
        clients.append(client := Client(stack.enter_context(http), user_id))
        client.start()

    def migrate(revision: str) -> None:
        migrator.migrate(empty_dsn, revision)
        ends = {client: client.rounds + ROUND for client in clients if not client.must_stop.is_set()}
        eventually(lambda: all(client.error or client.rounds >= end for client, end in ends.items()))
        assert [client.error for client in clients] == [None] * len(clients)

    def stop(client: Client) -> None:
        client.must_stop.set()
        client.join()

    with ExitStack() as stack, WebServer(tmp_path, environment, project=older) as old:
        start(old)
        migrate("0013")
        with WebServer(tmp_path, environment) as new:
            start(new)
            for revision in ("0014", "0015"):
                migrate(revision)
                assert [httpx.get(f"{web.url}/api/v1/health").status_code for web in (old, new)] == [200] * 2
            changes = f"/{clients[0].user_id}/tasks/changes"
            cursor = new.http.get(changes, params={"limit": 500}).json()["next_cursor"]
            stop(clients[0])
            assert old.stop() == 0

            migrate("0016")
            stop(clients[1])

            assert new.http.get(changes, params={"cursor": cursor}).status_code == 410
            for client in clients:
                client.http.base_url = httpx.URL(f"{new.url}/api/{client.user_id}/")
                assert client.listed() == client.listed("tasks/changes") == client.titles
