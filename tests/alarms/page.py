"""A page of the runbook: its commands, which are typed as an operator would, and what they print."""

import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import override

from persistence.development.embedded_postgres import _binaries
from tests.alarms.prometheus import quickened
from tests.docs.pages import DOCS
from tests.support.servers import ROOT

RUNBOOK = DOCS / "runbook.md"
MARK = "<!-- not recorded: `make alarms` records it -->\n"
_SESSION = re.compile(rf"(?<={re.escape(MARK)})```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PROGRAMS = {
    # The journal of the test is the file that the server logs to. It ignores since when lines are asked for.
    "journalctl": 'case "$*" in *" -n "*) exec tail -n "${@: -1}" "$LOG";; *) exec cat "$LOG";; esac',
    # There is one user, and PGUSER is the administrator.
    "runuser": 'shift 3; exec "$@"',
    "todo-manage": 'exec python manage.py "$@"',
    "systemctl": 'exec curl -sS --fail -d "$*" "$SUPERVISOR"',
}


class Page:
    """The part of the runbook about one alarm, which has a session to look and may have one to act."""

    def __init__(self, alarm: str) -> None:
        self._alarm = alarm
        self._look, self._act, *_ = (
            *(
                [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
                for session in _SESSION.findall(_section(RUNBOOK.read_text(encoding="utf-8"), alarm))
            ),
            [],
        )
        self._sessions: list[str] = []

    def look(self, shell: "Shell") -> str:
        return self._run(self._look, shell)

    def act(self, shell: "Shell") -> str:
        return self._run(self._act, shell)

    def _run(self, commands: list[str], shell: "Shell") -> str:
        self._sessions.append("".join(f"$ {command}\n{shell.run(command)}" for command in commands))
        return self._sessions[-1]

    def record(self) -> None:
        """Writes what the commands have printed into the page."""
        with RUNBOOK.open("r+", encoding="utf-8") as file:
            # Other alarms may be recorded at the same time.
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            before = _section(text, self._alarm)
            sessions = iter(self._sessions)
            after = _SESSION.sub(lambda _: f"```console\n{next(sessions)}```", before)
            file.seek(0)
            file.write(text.replace(before, after))
            file.truncate()


class Shell:
    """A shell in which commands of the runbook reach the servers of a test.

    `words` are replaced in commands, and put back in what they print.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], words: Mapping[str, str]) -> None:
        self._words = words
        folder.mkdir()
        for name, script in _PROGRAMS.items():
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), str(_binaries()), os.environ["PATH"]])
        self._environment = {**environment, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}

    def run(self, command: str) -> str:
        """What the command prints, with a final newline if there is anything."""
        there = quickened(command)
        for here, word in self._words.items():
            there = there.replace(here, word)
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{there}"],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout
        assert "not found" not in output, output
        for here, word in self._words.items():
            output = output.replace(word, here)
        return output and f"{output.rstrip()}\n"


@contextmanager
def supervisor(actions: Mapping[str, Callable[[], object]]) -> Iterator[str]:
    """The address that `systemctl` sends its arguments to; the actions are looked up by them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            actions[asked]()
            self.send_response(204)
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            """The output of tests is not for it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _section(text: str, alarm: str) -> str:
    found = re.search(rf"^## {alarm}\n.*?(?=^## )", text, re.DOTALL | re.MULTILINE)
    assert found, f"{RUNBOOK.name} has no page of {alarm}"
    return found[0]
