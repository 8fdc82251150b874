"""Servers as processes: their start, their end, and what they cost."""

import contextlib
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from tests.support.processes import clean_environment

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keeps one processor busy, so that none gets slow or sleeps between the statements of a measurement."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Server:
    """A web server on a port of 127.0.0.1. `start` returns at once, `wait` when the server answers a GET with 200."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], port: int, log: Path, folder: Path = ROOT
    ) -> None:
        self.port = port
        self._folder = folder
        self._command = command
        self._environment = environment
        self._log = log

    def start(self) -> Self:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the commands are our own
                self._command,
                cwd=self._folder,
                env={**clean_environment(), **self._environment},
                stdout=log,
                stderr=log,
            )
        return self

    def wait(self, path: str) -> None:
        """Raises `RuntimeError` with the server's log when the server does not come up."""
        deadline = time.monotonic() + START_TIMEOUT
        answer = ""
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", path)
                    response = connection.getresponse()
                    if response.status == 200:
                        return
                    answer = f"{response.status} {response.read(2000)!r}"
            time.sleep(0.05)
        raise RuntimeError(f"{' '.join(self._command)} does not serve: {answer}\n{self.log_end}")

    @property
    def log_end(self) -> str:
        return self._log.read_text()[-5000:]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            for process in _tree(self.process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()


def cpu_seconds(process_id: int) -> float:
    """Sums the CPU time of a process and its descendants, and of those that have ended and been waited for."""
    total = 0.0
    for process in _tree(process_id):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_bytes(process_id: int) -> int:
    """Sums the memory of a process and its descendants; shared pages count once (PSS) where the system can tell."""
    total = 0
    for process in _tree(process_id):
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def _tree(process_id: int) -> list[psutil.Process]:
    process = psutil.Process(process_id)
    return [process, *process.children(recursive=True)]
