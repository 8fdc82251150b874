"""The rotation of a log that goes to a file, by logrotate itself, while the server writes to it."""

import gzip
import json
import re
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from persistence.postgres.dsn import Dsn
from tests.deploy.files import DEPLOY, program, replaced, run
from tests.support.servers import eventually
from tests.support.sites import Site, running_site

CONFIGURATION = DEPLOY / "logrotate" / "todo"


@pytest.mark.slow
def test_no_line_is_lost_when_the_log_is_rotated(dsn: Dsn, tmp_path: Path) -> None:
    program("logrotate")
    log, pid, file = tmp_path / "todo.log", tmp_path / "gunicorn.pid", tmp_path / "logrotate.conf"
    places = {"/var/log/todo/todo.log": log, "/run/todo/gunicorn.pid": pid, "su todo todo": ""}
    text = replaced(CONFIGURATION, places)
    file.write_text(text, encoding="utf-8")
    options = re.search(r'GUNICORN_CMD_ARGS="(.+?)"', text)
    assert options

    with running_site(dsn, tmp_path, "--pid", str(pid), GUNICORN_CMD_ARGS=options[1]) as site:
        is_over = threading.Event()
        sent: list[str] = []
        clients = [threading.Thread(target=_send, args=(site.web.url, sent, is_over)) for _ in range(3)]
        for client in clients:
            client.start()
        for number in range(3):
            eventually(partial(_has_grown, sent, len(sent) + 100))
            run("logrotate", "--force", "--state", tmp_path / "state", file)
            assert (tmp_path / "todo.log.1").exists(), f"rotation {number}"
            # The next rotation would compress the renamed file.
            eventually(lambda: not _has_open(site, tmp_path / "todo.log.1"))
        is_over.set()
        for client in clients:
            client.join()
        assert site.web.stop() == 0

    lines = [json.loads(line) for each in tmp_path.glob("todo.log*") for line in _text(each).splitlines()]
    logged = [line["request_id"] for line in lines if line["logger"] == "web.requests"]
    assert len(list(tmp_path.glob("todo.log*"))) == 4
    assert sorted(each for each in logged if each.startswith("rotated-")) == sorted(sent)


def _send(url: str, sent: list[str], is_over: threading.Event) -> None:
    with httpx.Client(base_url=url, trust_env=False) as http:
        while not is_over.is_set():
            name = f"rotated-{uuid4().hex}"
            assert http.get("/api/v1/live", headers={"X-Request-ID": name}).status_code == 200
            sent.append(name)


def _has_grown(sent: list[str], number: int) -> bool:
    return len(sent) > number


def _has_open(site: Site, file: Path) -> bool:
    server = psutil.Process(site.web.process.pid)
    for process in (server, *server.children()):
        with suppress(psutil.NoSuchProcess):
            if str(file) in {each.path for each in process.open_files()}:
                return True
    return False


def _text(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text(encoding="utf-8")


def test_the_unit_names_the_same_files() -> None:
    unit = (DEPLOY / "systemd" / "todo.service").read_text(encoding="utf-8")
    rotation = CONFIGURATION.read_text(encoding="utf-8")

    assert "--pid /run/todo/gunicorn.pid" in unit
    assert "$(cat /run/todo/gunicorn.pid)" in rotation
    assert "LogsDirectory=todo\n" in unit
