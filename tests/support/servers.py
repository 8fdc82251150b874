"""Real servers for tests: a PostgreSQL that may be mistreated, and gunicorn as in production."""

import contextlib
import io
import json
import logging
import os
import pty
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, override
from urllib.parse import urlencode

import httpx
import psutil
import psycopg
from django.core.management.base import OutputWrapper

from persistence.development import embedded_postgres
from persistence.postgres.dsn import BadDatabaseUrl, Dsn
from tests.support import contract
from tests.support.databases import as_owner
from tests.support.processes import TcpServer, clean_environment, each_process, free_port

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".uv", ".env", ".postgres*", "__pycache__", ".*_cache", ".hypothesis", ".coverage*", "htmlcov",
    "node_modules", "results",
)  # fmt: skip
"""What a copy of the tree should not have."""
LONG = 120.0
"""Seconds after which a state that has not come is a failure, also on a busy machine."""


def eventually(condition: Callable[[], bool], timeout: float = LONG) -> float:
    """Waits until the condition holds and returns how long that took, in seconds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise AssertionError(f"not within {timeout:g} s: {condition}")
        time.sleep(0.05)
    return time.monotonic() - started


class PostgresServer:
    """A PostgreSQL on 127.0.0.1 that may be mistreated; its address stays the same over restarts.

    `settings` are `name=value` for postgresql.conf. `template` is the folder of a stopped server, to begin with a copy.
    Every user of this machine may connect as any role without a password until the test writes another pg_hba.conf in
    `folder / "data"`.
    """

    def __init__(self, folder: Path, *settings: str, template: Path | None = None) -> None:
        self.port = free_port()
        self.folder = folder
        self.role = "postgres"
        """The role that `dsn` and `url` are for."""
        self._template = template
        self._server = TcpServer(folder, self.port, ("fsync=off", *settings))

    def __enter__(self) -> Self:
        if self._template:
            # The owner of the data is copied, too, as PostgreSQL does not run as root.
            subprocess.run(["cp", "-a", self._template, self.folder], check=True)
        else:
            self.folder.mkdir(mode=0o700)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.stop()

    @property
    def dsn(self) -> Dsn:
        return Dsn.parse(self.url)

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, user: str | None = None, password: str = "", database: str = embedded_postgres.DATABASE) -> str:
        user = user or self.role
        return f"postgresql://{user}{':' * bool(password)}{password}@127.0.0.1:{self.port}/{database}"

    def administrator(self) -> psycopg.Connection:
        """A connection to none of the databases that tests use."""
        return psycopg.connect(Dsn.parse(self.url_of("postgres", database="postgres")).conninfo, autocommit=True)

    @contextmanager
    def standby(self, folder: Path) -> Iterator["PostgresServer"]:
        """A hot standby of this server, which runs until the end of the block."""
        standby = PostgresServer(folder)
        folder.mkdir(mode=0o700)
        status, output = standby._server._run(
            "pg_basebackup", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-R", "-X", "stream",
            "-c", "fast", "--no-sync",
        )  # fmt: skip
        assert status == 0, output
        standby.start()
        try:
            yield standby
        finally:
            standby.__exit__()

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Ends it as an administrator would: clients are disconnected at once."""
        self._server.stop()

    def kill(self) -> None:
        """Ends every process of it at once, as a power cut would."""
        psutil.wait_procs(each_process(self.folder / "data", psutil.Process.kill), timeout=30)

    def freeze(self) -> None:
        """Stalls it: the network still takes what clients send, and no answer comes."""
        each_process(self.folder / "data", psutil.Process.suspend)

    def thaw(self) -> None:
        each_process(self.folder / "data", psutil.Process.resume)


class WebServer:
    """`gunicorn -c python:config.gunicorn` in an environment of its own; its output is in `log`.

    `http` sends requests to paths below `/api`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *arguments: str, project: Path = ROOT) -> None:
        self._project = project
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(
            base_url=f"{self.url}/api",
            # Each request on a connection of its own, so that all workers get some.
            headers={"Connection": "close"},
            timeout=LONG,
            # Nothing here is encrypted, and reading the system's certificates takes long.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            event_hooks={"response": [contract.check_sync]},
        )
        self._log = folder / f"gunicorn-{self.port}.log"
        self._command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn"]
        self._command += ["--bind", f"127.0.0.1:{self.port}", *arguments]
        self._environment = {**clean_environment(), **environment}

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_live()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LONG)
            except subprocess.TimeoutExpired:
                # Its workers notice that it is gone and leave by themselves.
                self.process.kill()
                self.process.wait()
                raise

    def start(self) -> None:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._project, env=self._environment, stdout=log, stderr=log
            )

    def wait_until_live(self) -> None:
        eventually(self._is_live)

    def _is_live(self) -> bool:
        assert self.process.poll() is None, f"gunicorn ended with {self.process.returncode}:\n{self.log}"
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/v1/live").status_code == 200
        return False

    def stop(self) -> int:
        """Asks it to stop as a supervisor would, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)

    @property
    def log(self) -> str:
        return self._log.read_text()


class PipedWebServer(WebServer):
    """A server whose output goes through one pipe into `log`, as to the log's reader of a container platform."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._may_read = threading.Event()
        self._may_read.set()

    @override
    def start(self) -> None:
        read, write = os.pipe()
        self._reader = threading.Thread(target=self._read, args=(read,), daemon=True)
        self._reader.start()
        self.process = subprocess.Popen(
            self._command, cwd=self._project, env=self._environment, stdout=write, stderr=write
        )
        os.close(write)

    def _read(self, pipe: int) -> None:
        with self._log.open("wb") as log:
            while self._may_read.wait() and (data := os.read(pipe, 65536)):
                log.write(data)
                log.flush()
        os.close(pipe)

    def freeze_reader(self) -> None:
        self._may_read.clear()

    def thaw_reader(self) -> None:
        self._may_read.set()

    @override
    def end(self) -> None:
        super().end()
        self.thaw_reader()
        # The pipe ends with the last worker.
        self._reader.join(LONG)


@dataclass(frozen=True)
class Outcome:
    """The end of a command, and its output."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(url: str, name: str, *arguments: str, **variables: object) -> Outcome:
    """Runs a management command as `manage.py` does, but in this process and on the database at `url`.

    If that is for the server's role, DATABASE_URL_DIRECT is for the owner.
    """
    # Only here, as these modules need Django's settings.
    from django.core.management import get_commands, load_command_class
    from django.test import override_settings

    from config.env import Env

    if (owner := owner_url(url)) != url:
        variables = {"database_url_direct": owner} | variables
    env = Env(_env_file=None, **{"environment": "development", "database_url": url, **variables})  # type: ignore[arg-type]
    settings = {
        "IS_PRODUCTION": env.is_production,
        "DATABASE_LOCATION": env.database_location,
        "DATABASE_LOCATION_DIRECT": env.database_location_direct,
        "DATABASE_OPTIONS": env.database_options,
        "USER_TASKS_MAX": env.user_tasks_max,
        "TRASH_DAYS": env.trash_days,
        "TOMBSTONE_DAYS": env.tombstone_days,
    }
    out, err, status = io.StringIO(), io.StringIO(), 0
    level = logging.getLogger("persistence").level
    with override_settings(**settings), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        command = load_command_class(get_commands()[name], name)
        command.stdout, command.stderr = OutputWrapper(out), OutputWrapper(err)
        try:
            command.run_from_argv(["manage.py", name, *arguments])
        except SystemExit as stop:
            # Python prints what is not a number, and the status is 1.
            status = stop.code if isinstance(stop.code, int) else 1
            err.write("" if isinstance(stop.code, int) else f"{stop.code}\n")
        finally:
            logging.getLogger("persistence").setLevel(level)
    return Outcome(status, out.getvalue(), err.getvalue())


def owner_url(url: str) -> str:
    """The same address for the owner, if it is for a role that has the rights of the server."""
    with contextlib.suppress(BadDatabaseUrl):
        if (owner := as_owner(dsn := Dsn.parse(url))) != dsn:
            return url_of(owner)
    return url


def url_of(dsn: Dsn) -> str:
    """The address as it would stand in DATABASE_URL."""
    parameters = {name: value for name, value in dsn.parameters.items() if name != "dbname"}
    return f"postgresql:///{dsn.database}?{urlencode(parameters)}"


def manage(
    *arguments: str, environment: Mapping[str, str], project: Path = ROOT, wait: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs `manage.py` with these settings only, and those of `.env`."""
    return subprocess.run(
        [sys.executable, str(project / "manage.py"), *arguments],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=wait,
        check=False,
    )


SHELL = """
import os, signal, sys
# The tests may run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# A session without a terminal gets the first one that it opens.
terminal = os.open(sys.argv[1], os.O_RDWR)
for number in range(3):
    os.dup2(terminal, number)
os.execvp("sh", ["sh", "-i"])
"""


class Terminal:
    """A shell at a terminal, which takes a command as a person would type it. Whatever is left is killed at the end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._screen, self._keyboard = pty.openpty()
        os.set_blocking(self._screen, False)
        self._shell = subprocess.Popen(
            [sys.executable, "-c", SHELL, os.ttyname(self._keyboard)],
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self._text = ""
        self._processes: list[psutil.Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shell.poll() is None:
            self.close()
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def type(self, command: str) -> None:
        os.write(self._screen, f"{command}\n".encode())

    @property
    def text(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while read := os.read(self._screen, 65536):
                self._text += read.decode()
        return self._text

    def close(self) -> list[psutil.Process]:
        """Closes the window, and returns the processes that the commands had."""
        self._processes = psutil.Process(self._shell.pid).children(recursive=True)
        os.close(self._screen)
        os.close(self._keyboard)
        self._shell.wait()
        return self._processes


def copy_project(folder: Path) -> Path:
    """A copy of the project's code without `.env`, which a test may write into."""
    # Only here, as it imports gunicorn.
    from server.master import PACKAGES

    folder.mkdir()
    for name in PACKAGES:
        # The compiled modules are copied, too, as compiling takes long.
        shutil.copytree(ROOT / name, folder / name)
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder
