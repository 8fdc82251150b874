"""The command `manage.py runserver`."""

import re
import shlex
import signal
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from django.test import override_settings

from persistence.postgres.dsn import Dsn
from tests.support.processes import clean_environment, free_port
from tests.support.servers import ROOT, command, copy_project, eventually, manage, url_of
from todos.management.commands.runserver import Command


def test_it_refuses_production(dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "runserver", environment="production", auth_mode="trusted")

    assert (outcome.status, outcome.out) == (1, "")
    assert "gunicorn -c python:config.gunicorn" in outcome.err


def test_a_port_in_use_is_one_line_with_a_hint(dsn: Dsn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for address in (str(port), f"127.0.0.1:{port}"):
            outcome = command(url_of(dsn), "runserver", address)

            assert (outcome.status, outcome.out) == (1, "")
            assert f"127.0.0.1:{port}" in outcome.err
            assert "Choose another port" in outcome.err
            assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("address", ["http", "0", "65536", "127.0.0.1:", "127.0.0.1:http", "-5", "²"])
def test_text_that_is_not_an_address_is_refused(address: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "runserver", address)

    assert (outcome.status, outcome.out) == (1, "")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_host_that_is_not_here_is_refused_readably(host: str, dsn: Dsn) -> None:
    outcome = command(url_of(dsn), "runserver", f"{host}:8000")

    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(f"Error: Cannot listen on {host}:8000")


@pytest.mark.parametrize(
    ("mode", "sign_in", "curl"),
    [
        ("jwt", "a bearer token is needed", 'curl http://localhost/api/me/tasks -H "Authorization: Bearer $TOKEN"'),
        ("trusted", "left to a gateway", f"curl http://localhost/api/{UUID(int=5)}/tasks"),
        ("open", "none", f"curl http://localhost/api/{UUID(int=5)}/tasks"),
    ],
)
def test_the_banner_says_who_may_call_and_how(mode: str, sign_in: str, curl: str) -> None:
    banner = StringIO()
    with override_settings(AUTH_MODE=mode):
        Command(stdout=banner)._welcome("http://localhost", UUID(int=5))

    assert f"Sign-in:        {sign_in}" in banner.getvalue()
    assert f"AUTH_MODE={mode}" in banner.getvalue()
    assert f"\n    {curl}\n" in banner.getvalue()


def test_it_migrates_seeds_and_serves_and_the_printed_curls_work(empty_dsn: Dsn, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    environment = clean_environment() | {"ENVIRONMENT": "development", "DATABASE_URL": url_of(empty_dsn)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--seed", f"127.0.0.1:{port}"],
            cwd=ROOT, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        eventually(lambda: "ASGI server listening" in log.read_text())
        text = log.read_text()
        curls = re.findall(r"^ +(curl .+)$", text, re.MULTILINE)
        docs = f"http://127.0.0.1:{port}/api/docs"
        answers = [
            subprocess.run(shlex.split(curl), capture_output=True, check=True).stdout
            for curl in (*curls, f"curl --fail {docs}")
        ]

        # The process becomes the server, so that signals reach that.
        assert psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        status = process.wait(120)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

    assert len(answers) == 4
    assert b'"title":"Buy groceries"' in answers[0]
    assert b'"title":"Water the plants"' in answers[1]
    assert b'"healthy"' in answers[2]
    assert docs in text
    assert status == 0
    assert "Traceback" not in log.read_text()


CTRL_C = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize("name", [pytest.param("commands", marks=pytest.mark.slow), "settings"])
def test_ctrl_c_while_it_loads_its_code_is_one_line(name: str, dsn: Dsn, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "config" / f"{name}.py").write_text(f"{CTRL_C}\n")
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": url_of(dsn)}
    outcome = manage("runserver", str(free_port()), environment=environment, project=project)

    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (1, "", "Interrupted.\n")


def test_ctrl_c_while_gunicorn_is_loaded_ends_the_start(dsn: Dsn, tmp_path: Path) -> None:
    # Python imports this module before all others.
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nif 'gunicorn' in sys.orig_argv:\n    {CTRL_C}\n")
    environment = {"ENVIRONMENT": "development", "DATABASE_URL": url_of(dsn), "PYTHONPATH": str(tmp_path)}
    outcome = manage("runserver", str(free_port()), environment=environment)

    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
