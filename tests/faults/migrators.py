"""Processes that migrate the same database at once, and can be killed one by one.

`python -m tests.faults.migrators` imports everything once and forks, because importing takes longer than migrating.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from persistence import migrator
from persistence.postgres.dsn import Dsn
from tests.support.processes import clean_environment
from tests.support.servers import ROOT

type Report = tuple[tuple[str, ...], str]
"""The revisions that a process applied, and its error."""


class Migrators:
    """Starts the processes. Each has its process id as its name in `pg_stat_activity.application_name`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def start(self, url: str, count: int) -> list[int]:
        """Starts the processes at the same time, and returns their ids."""
        assert self._process.stdin
        self._process.stdin.write(f"{count} {url}\n".encode())
        return [int(await self._line()) for _ in range(count)]

    async def wait(self) -> dict[int, Report]:
        """Waits for all processes, and returns the reports of those that were not killed."""
        reports = {}
        while (line := await self._line()) != "end":
            pid, revisions, error = json.loads(line)
            reports[pid] = (tuple(revisions), error)
        return reports

    async def _line(self) -> str:
        assert self._process.stdout
        return (await self._process.stdout.readline()).decode().strip()


@asynccontextmanager
async def migrators() -> AsyncIterator[Migrators]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__,
        cwd=ROOT, env=clean_environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Migrators(process)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


def _serve() -> None:
    for line in sys.stdin:
        count, _, url = line.strip().partition(" ")
        reading, writing = os.pipe()
        children = [_fork(url, reading, writing) for _ in range(int(count))]
        os.write(1, "".join(f"{child}\n" for child in children).encode())
        # Closing the pipe starts them all.
        os.close(writing)
        os.close(reading)
        for child in children:
            os.waitpid(child, 0)
        os.write(1, b"end\n")


def _fork(url: str, reading: int, writing: int) -> int:
    if child := os.fork():
        return child
    os.environ["PGAPPNAME"] = str(os.getpid())
    os.close(writing)
    os.read(reading, 1)
    revisions: list[str] = []
    error = ""
    try:
        migrator.migrate(Dsn.parse(url), report=lambda run: revisions.append(run.revision))
    except Exception as failure:  # noqa: BLE001 - the parent reports every error
        error = f"{type(failure).__name__}: {failure}"
    os.write(1, f"{json.dumps([os.getpid(), revisions, error])}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    _serve()
