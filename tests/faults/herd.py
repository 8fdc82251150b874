"""Processes that migrate the same database at once, and can be killed one by one.

`python -m tests.faults.herd` imports everything once and forks them, because importing takes longer than migrating.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.processes import clean_environment
from tests.support.servers import ROOT


@dataclass(frozen=True)
class Report:
    """What one process has to say: the revisions of the steps it ran, or why it ran none."""

    steps: tuple[str, ...]
    error: str = ""


class Herd:
    """Their process ids are their names in `pg_stat_activity.application_name`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def start(self, url: str, count: int) -> list[int]:
        """Makes the processes, and returns their ids."""
        assert self._process.stdin
        self._process.stdin.write(f"{count} {url}\n".encode())
        return [int(await self._line()) for _ in range(count)]

    async def end(self) -> dict[int, Report]:
        """Waits for all of them; those that were killed have no report."""
        reports = {}
        while (line := await self._line()) != "end":
            pid, steps, error = json.loads(line)
            reports[pid] = Report(tuple(steps), error)
        return reports

    async def _line(self) -> str:
        assert self._process.stdout
        return (await self._process.stdout.readline()).decode().strip()


@asynccontextmanager
async def herd() -> AsyncIterator[Herd]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.herd",
        cwd=ROOT, env=clean_environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Herd(process)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _serve() -> None:
    for line in sys.stdin:
        count, _, url = line.strip().partition(" ")
        gate, closed = os.pipe()
        children = [_fork(url, gate, closed) for _ in range(int(count))]
        os.write(1, "".join(f"{child}\n" for child in children).encode())
        # They all start now.
        os.close(closed)
        os.close(gate)
        for child in children:
            os.waitpid(child, 0)
        os.write(1, b"end\n")


def _fork(url: str, gate: int, closed: int) -> int:
    if child := os.fork():
        return child
    os.environ["PGAPPNAME"] = str(os.getpid())
    os.close(closed)
    os.read(gate, 1)
    steps: list[migrator.Step] = []
    error = ""
    try:
        migrator.migrate(Dsn.parse(url), report=steps.append)
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is to be reported
        error = f"{type(failure).__name__}: {failure}"
    os.write(1, f"{json.dumps([os.getpid(), [step.revision for step in steps], error])}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    _serve()
