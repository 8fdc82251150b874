"""The commands of "Backup and restore": a dump under load, a restore on another server, and what clients see then."""

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, override
from uuid import UUID

import httpx
import pytest

from persistence.development import embedded_postgres
from tests.docs.pages import DOCS, section
from tests.support.databases import new_user
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, PostgresServer, WebServer, command, eventually

pytestmark = pytest.mark.slow

type Tasks = dict[str, dict[str, Any]]

WRITERS = 4
ROUND = 30
"""Writes of each writer before, and after, the dump."""


def commands(heading: str) -> str:
    """The commands of a part of the page, in their order, for a shell."""
    part = section(DOCS / "operations.md", heading)
    blocks = re.findall(r"^```(sh|console)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    lines = (
        body if kind == "sh" else re.sub(r"^(?:\$ (.*)|.*)\n", r"\1\n", body, flags=re.MULTILINE)
        for kind, body in blocks
    )
    found = "".join(lines).replace(".venv/bin/python manage.py", f"{sys.executable} {ROOT / 'manage.py'}")
    return found.replace("deploy/", f"{ROOT}/deploy/")


def settings(postgres: PostgresServer, owner: str = "postgres", server: str = "postgres") -> dict[str, str]:
    return {
        "ENVIRONMENT": "production",
        "AUTH_MODE": "trusted",
        "DATABASE_URL": postgres.url_of(server),
        "DATABASE_URL_DIRECT": postgres.url_of(owner),
        "REQUEST_TIMEOUT": "60",
    }


def without_version(task: dict[str, Any]) -> dict[str, Any]:
    """The task without what the restore changes."""
    return {name: value for name, value in task.items() if name != "version"}


class Writer(threading.Thread):
    """A client that writes to tasks of its own, one request after the other, until it is told to stop.

    `states` are its tasks after each of the writes, all of them acknowledged.
    """

    def __init__(self, url: str, user_id: UUID) -> None:
        super().__init__(daemon=True)
        self.address = f"{url}/api/{user_id}/"
        self.states: list[Tasks] = [{}]
        self.must_stop = threading.Event()

    @override
    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=60, trust_env=False) as http:
            for number in itertools.count():
                if self.must_stop.is_set():
                    return
                self.states.append(self._write(http, number, dict(self.states[-1])))

    def _write(self, http: httpx.Client, number: int, tasks: Tasks) -> Tasks:
        if number % 3 == 0 or not tasks:
            task = http.post("tasks", json={"title": f"Task {number}", "tags": ["a", "b"]}).raise_for_status().json()
            return tasks | {task["id"]: without_version(task)}
        # The first in the dictionary is the oldest.
        task_id = next(iter(tasks))
        if number % 3 == 1:
            change = {"title": f"Changed {number}", "completed": number % 2 == 0}
            task = http.patch(f"tasks/{task_id}", json=change).raise_for_status().json()
            return tasks | {task_id: without_version(task)}
        http.delete(f"tasks/{task_id}").raise_for_status()
        del tasks[task_id]
        return tasks


def tasks_of(http: httpx.Client, user_id: UUID) -> Tasks:
    tasks: Tasks = {}
    cursor = None
    while True:
        page = http.get(f"/{user_id}/tasks", params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
        tasks |= {task["id"]: without_version(task) for task in page["items"]}
        cursor = page["next_cursor"]
        if not cursor:
            return tasks


def follow_changes(http: httpx.Client, user_id: UUID) -> tuple[str, set[str]]:
    """The cursor of a client that has asked for all changes, and the ids of the live tasks that it has."""
    cursor, ids = None, set[str]()
    while True:
        answer = http.get(f"/{user_id}/tasks/changes", params={"cursor": cursor} if cursor else {})
        page = answer.raise_for_status().json()
        for task in page["items"]:
            (ids.discard if task["deleted_at"] else ids.add)(task["id"])
        cursor = page["next_cursor"]
        if not page["more"]:
            return cursor, ids


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the programs that came with the server first on the path: others may be older than it."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(embedded_postgres._binaries()), os.environ["PATH"]]))


@pytest.fixture
def other_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server with the two roles of production and an empty database."""
    with PostgresServer(tmp_path / "other") as server:
        with server.administrator() as admin:
            admin.execute("CREATE ROLE todo_owner LOGIN")
            admin.execute("CREATE ROLE todo_server LOGIN")
            admin.execute("REVOKE ALL ON DATABASE todo FROM PUBLIC")
            admin.execute("ALTER DATABASE todo OWNER TO todo_owner")
        yield server


def test_a_dump_under_load_restores_every_task_and_no_client_is_misled(
    postgres: PostgresServer, other_postgres: PostgresServer, programs: None, tmp_path: Path
) -> None:
    def follow(heading: str, environment: dict[str, str]) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands(heading)],
            cwd=tmp_path, env=clean_environment() | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command(postgres.url, "seed_dev", "--users", "20", "--tasks", "5000")
    ana, eve, *users = [new_user(postgres.dsn) for _ in range(2 + WRITERS)]
    creates = [{"json": {"title": f"Task {n}"}, "headers": {"Idempotency-Key": f"key-{n}"}} for n in range(5)]

    with WebServer(tmp_path, settings(postgres), "--workers", "2") as web:
        tasks, eves = f"/{ana}/tasks", f"/{eve}/tasks"
        changed, deleted, *_ = [web.http.post(tasks, **create).json()["id"] for create in creates[:4]]  # type: ignore[arg-type]
        first_page = web.http.get(tasks, params={"limit": 2}).json()
        cursor = {"limit": 2, "cursor": first_page["next_cursor"]}
        second_page = web.http.get(tasks, params=cursor).json()
        old_cursor, _ = follow_changes(web.http, ana)
        old = web.http.get(f"{tasks}/{changed}").headers["ETag"]
        web.http.post(eves, json={"title": "Secret"}).raise_for_status()
        writers = [Writer(web.url, user) for user in users]
        for writer in writers:
            writer.start()
        eventually(lambda: all(len(writer.states) > ROUND for writer in writers))

        before = [len(writer.states) - 1 for writer in writers]
        follow("Backup", settings(postgres))
        after = [len(writer.states) for writer in writers]

        eventually(lambda: all(len(writer.states) > end + ROUND for writer, end in zip(writers, after, strict=True)))
        for writer in writers:
            writer.must_stop.set()
            writer.join()
        for title in ("Lost", "Lost, too"):
            lost = web.http.patch(f"{tasks}/{changed}", json={"title": title})
        web.http.delete(f"{tasks}/{deleted}").raise_for_status()
        young = web.http.post(tasks, **creates[4])  # type: ignore[arg-type]
        lost_cursor, _ = follow_changes(web.http, ana)
        command(postgres.url, "erase_user", str(eve), "--yes")
        erased = command(postgres.url, "list_users", "--erased", "--json").out
    (tmp_path / "erased.jsonl").write_text(erased)

    follow("Restore", settings(other_postgres, "todo_owner", "todo_server"))

    with WebServer(tmp_path, settings(other_postgres, "todo_owner", "todo_server"), "--workers", "2") as web:
        assert web.http.get("/v1/health").json()["data"]["migration"] == "up-to-date"
        # Of each writer the dump has its first writes, all that were acknowledged before, and nothing by halves.
        for user, writer, least, most in zip(users, writers, before, after, strict=True):
            restored = tasks_of(web.http, user)
            assert restored in writer.states[least : most + 1]
            assert web.http.get(f"/{user}/tasks/summary").json()["total"] == len(restored)
        assert command(other_postgres.url, "list_users").out.count(" 250  load-") == 20

        assert web.http.get(f"{tasks}/{changed}").json()["title"] == "Task 0"
        for etag in (old, lost.headers["ETag"]):
            assert web.http.get(f"{tasks}/{changed}", headers={"If-None-Match": etag}).status_code == 200
            held = {"If-Match": etag}
            assert web.http.patch(f"{tasks}/{changed}", headers=held, json={"title": "Mine"}).status_code == 412
        assert int(web.http.get(f"{tasks}/{changed}").headers["ETag"].strip('"')) > lost.json()["version"]

        # Also when the user has written again, so that the cursors are from the past.
        for _ in range(2):
            for gone in (old_cursor, lost_cursor):
                refused = web.http.get(f"{tasks}/changes", params={"cursor": gone})
                assert (refused.status_code, refused.json()["type"]) == (410, "urn:problem:todo:changes-gone")
            web.http.patch(f"{tasks}/{changed}", json={"title": "By another client"}).raise_for_status()
        assert follow_changes(web.http, ana)[1] == tasks_of(web.http, ana).keys()

        assert web.http.get(f"{tasks}/{deleted}").status_code == 200
        assert web.http.get(young.headers["Location"].removeprefix("/api")).status_code == 404
        again, replayed = (web.http.post(tasks, **create) for create in (creates[4], creates[3]))  # type: ignore[arg-type]
        assert (again.status_code, again.headers["Location"]) == (201, young.headers["Location"])
        assert (replayed.status_code, replayed.headers["Idempotency-Replayed"]) == (200, "true")
        page = web.http.get(tasks, params=cursor).json()
        assert [task["id"] for task in page["items"]] == [task["id"] for task in second_page["items"]]

        assert tasks_of(web.http, eve) == {}
        assert web.http.post(eves, json={"title": "Again"}).status_code == 404
