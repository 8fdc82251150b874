"""`make run` at a terminal: in a folder of any name, with any variables in the shell, until the terminal is closed."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.processes import clean_environment, free_port
from tests.support.servers import LEFT_OUT, ROOT, Terminal, copy_project, eventually

ODD_NAME = " it's (a) & b; c, #d @e +f %(here)s %20 = ~ * [g] ? ! {h} ü→中 \\ < > | ^"
OF_THE_SHELL = {"PORT": "1", "ARGS": "--nonsense", "VENV": "/nonsense", "PYTHONPATH": "/nonsense", "CDPATH": "/"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project in a folder with an odd name, with the packages of this one."""
    # With a colon no environment could be made, except by a uv on the path.
    folder = copy_project(tmp_path / f"{ODD_NAME}:")
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def serve_until_the_terminal_is_closed(project: Path, **variables: str) -> None:
    port = free_port()
    # As CONTRIBUTING.md asks for a line of each request.
    variables |= {"GUNICORN_CMD_ARGS": "--access-logfile -"}
    with Terminal(project, clean_environment() | OF_THE_SHELL | variables) as terminal:
        terminal.type(f"make run PORT={port}")
        eventually(lambda: "ASGI server listening" in terminal.text or "Error" in terminal.text)
        [curl] = [line for line in terminal.text.splitlines() if line.endswith("/tasks")]
        tasks = subprocess.run(shlex.split(curl), capture_output=True, check=False)
        assert b'"title":"Buy groceries"' in tasks.stdout, terminal.text
        eventually(lambda: f'"GET {urlsplit(curl.split()[-1]).path} ' in terminal.text)
        pid_file = project / ".postgres" / "data" / "postmaster.pid"
        postmaster = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))

        processes = [*terminal.close(), postmaster]

        assert len(processes) > 3
        eventually(lambda: not any(process.is_running() for process in processes))


@pytest.mark.slow
def test_it_serves_in_a_folder_of_any_name_until_the_terminal_is_closed(project: Path) -> None:
    serve_until_the_terminal_is_closed(project)


@pytest.mark.slow
def test_a_clone_with_the_line_endings_of_windows_sets_itself_up_and_serves(tmp_path: Path) -> None:
    tree, clone = tmp_path / "tree", tmp_path / ODD_NAME
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "core.autocrlf=true"]
    for command in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*git, *command], cwd=tree, check=True)
    subprocess.run([*git, "clone", "-q", "-c", "core.autocrlf=true", tree, clone], check=True)

    endings = subprocess.run([*git, "ls-files", "--eol"], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert [line for line in endings.splitlines() if "w/crlf" in line or "w/mixed" in line] == []
    serve_until_the_terminal_is_closed(clone, PIP_TARGET="/nonsense", UV_EXCLUDE_NEWER="2001-01-01")
