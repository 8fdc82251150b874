"""Real servers for tests: a PostgreSQL that may be mistreated, and gunicorn as in production."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from persistence import embedded
from persistence.dsn import Dsn

ROOT = Path(__file__).parent.parent
STARTUP_TIMEOUT = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgresServer:
    """A PostgreSQL on a Unix socket and on a port of 127.0.0.1; its address stays the same over restarts."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._folder = folder
        settings = ("fsync=off", "listen_addresses=127.0.0.1", f"port={self.port}", *settings)
        self._server = embedded._Server(folder, settings)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.thaw()
        self.stop()

    @property
    def dsn(self) -> Dsn:
        return Dsn.parse(f"postgresql://postgres@127.0.0.1:{self.port}/{embedded.DATABASE}")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{embedded.DATABASE}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """Ends every process of it at once, as a power cut would."""
        for process in self._processes():
            process.kill()
        psutil.wait_procs(self._processes())

    def freeze(self) -> None:
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        pid = int((self._folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children(recursive=True)]


class WebServer:
    """`gunicorn -c python:config.gunicorn` in an environment of its own; its output is in `log`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"gunicorn-{self.port}.log"
        self._command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn"]
        self._command += ["--bind", f"127.0.0.1:{self.port}", *arguments]
        self._environment = clean_environment() | environment

    def __enter__(self) -> Self:
        self.start()
        self.wait_until_live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def start(self) -> None:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def wait_until_live(self) -> None:
        deadline = time.monotonic() + STARTUP_TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"gunicorn ended with {self.process.returncode}:\n{self.log}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/api/v1/live", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"gunicorn did not answer:\n{self.log}")

    def stop(self) -> int:
        """Asks it to stop as a supervisor would, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    @property
    def log(self) -> str:
        return self._log.read_text()


def clean_environment() -> dict[str, str]:
    """This process's environment without our settings, so that a test says them all."""
    ours = ("DATABASE_", "ENVIRONMENT", "CORS_", "LOG_LEVEL", "AUTO_MIGRATE", "REQUEST_", "BODY_", "WEB_", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
