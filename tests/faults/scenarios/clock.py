"""The wall clock is moved while the web server or PostgreSQL runs. Only the code that reads the clock may notice."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import cycle
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

from tests.faults.administrator import OURS
from tests.faults.bad_clients import Slow, stay
from tests.faults.environment import Environment, environment
from tests.faults.http import Http
from tests.faults.matrix import Result, Run, Skipped, scenario
from tests.support.sockets import LIVE

SOURCE = Path(__file__).with_name("wall_clock.c")
HOUR = 3600
REQUEST_TIMEOUT = 2.0
POOL_LIFETIME = 4
HEAD_TIMEOUT = 10.0
"""Seconds after which the server closes a connection with half a request."""
SLACK = 0.25
WRONG_DATE = "the header `Date` does not follow the clock"


class WallClock:
    """The clock of all processes that are started with `environment`. Raises `Skipped` without a C compiler."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if sys.platform != "linux" or not compiler:
            raise Skipped("moving a clock takes Linux and a C compiler")
        folder.mkdir()
        library, self._offset = folder / "wall_clock.so", folder / "offset"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self._offset.write_bytes(bytes(8))
        self.seconds = 0
        """Seconds that it is ahead of the true time."""
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(self._offset)}

    def move(self, seconds: int) -> None:
        self.seconds = seconds
        # The processes have the file in their memory, and see all eight bytes change at once.
        with self._offset.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


@scenario("clock moved by an hour either way", goal="no hang, no wrong deadline")
async def moved_clock(run: Run, result: Result) -> None:
    web, postgres = WallClock(run.folder / "web"), WallClock(run.folder / "postgres")
    moves = cycle([(web, HOUR), (postgres, HOUR), (web, -HOUR), (postgres, -HOUR), (web, 0), (postgres, 0)])
    async with AsyncExitStack() as stack:
        # PostgreSQL inherits the environment of this process, gunicorn gets its own.
        with patch.dict(os.environ, postgres.environment):
            settings = {"REQUEST_TIMEOUT": str(REQUEST_TIMEOUT), "DATABASE_POOL_LIFETIME": str(POOL_LIFETIME)}
            env = await stack.enter_async_context(environment(run, result, settings=settings | web.environment))
        # The last user is not among those of the load.
        user_id = env.users.pop()
        half_sent = asyncio.create_task(stay(env.web.port, LIVE[:30], b"", slow := Slow()))
        async with env.load(pause=0.01, may_be_unavailable=False) as found:
            http, late = Http(env.web.port), []
            for _ in range(run.rounds(24, 4)):
                late.append(await _move(env, http, user_id, *next(moves)))
                await _check_clocks(result, http, user_id, web, postgres)
            await _check_expiry(env)
            http.close()
        slowest = max(sample.seconds for sample in found.samples)
        result.expect(slowest < REQUEST_TIMEOUT, f"a request took {slowest:.2f} s")
        result.figures["503 after the deadline"] = f"{max(late) * 1000:.0f} ms at the latest"
        result.goal(max(late) < SLACK, f"a request was answered {max(late):.2f} s after its deadline")
        await half_sent
        [seconds] = slow.seconds
        result.figures["half a request was given"] = f"{seconds:.1f} s"
        result.expect(HEAD_TIMEOUT / 2 < seconds < HEAD_TIMEOUT * 2, f"half a request was given {seconds:.1f} s")
        await env.conclude()
        started = time.monotonic()
        status = await asyncio.to_thread(env.web.stop)
        result.expect(status == 0, f"the exit status is {status}")
        result.goal(time.monotonic() - started < 5, f"it took {time.monotonic() - started:.1f} s to stop")


async def _move(env: Environment, http: Http, user_id: UUID, clock: WallClock, seconds: int) -> float:
    """Moves a clock while a request waits for a locked row. Returns the seconds from its deadline to the response."""
    result = env.result
    result.rounds += 1
    tasks, waiting = f"/api/{user_id}/tasks", Http(env.web.port)
    task_id = (await http.request("POST", tasks, {"title": "Locked"})).json["id"]
    async with env.administrator() as other, other.transaction():
        await other.query("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", task_id)
        request = asyncio.create_task(waiting.request("PATCH", f"{tasks}/{task_id}", {"priority": "high"}))
        await asyncio.sleep(REQUEST_TIMEOUT / 5)
        clock.move(seconds)
        health = await http.request("GET", "/api/v1/health")
        answer = await request
    result.expect(health.status == 200, f"health is {health.status}")
    result.expect(answer.status == 503, f"a request for a locked row got {answer.status}")
    result.unavailable += answer.status == 503
    late = answer.seconds - REQUEST_TIMEOUT
    result.expect(-0.1 < late < REQUEST_TIMEOUT, f"its deadline came after {answer.seconds:.2f} s")
    again = await http.request("GET", f"{tasks}/{task_id}")
    result.expect(again.status == 200 and http.connects == 1, "the connection that was kept alive was closed")
    waiting.close()
    return late


async def _check_clocks(result: Result, http: Http, user_id: UUID, web: WallClock, postgres: WallClock) -> None:
    """Expects the clocks at the time that they were moved to. Otherwise nothing was tested."""
    statuses = []
    for offset in (-HOUR / 2, HOUR / 2):
        due = datetime.fromtimestamp(time.time() + web.seconds + offset, UTC).isoformat()
        answer = await http.request("POST", f"/api/{user_id}/tasks", {"title": "What time is it?", "due_date": due})
        statuses.append(answer.status)
    result.expect(statuses == [400, 201], f"due half an hour ago, and in half an hour: {statuses}")
    stored = datetime.fromisoformat(answer.json["created_at"]).timestamp()
    result.expect(abs(stored - time.time() - postgres.seconds) < HOUR / 2, "PostgreSQL's clock was not moved")
    date = parsedate_to_datetime(answer.headers["date"]).timestamp()
    if abs(date - time.time() - web.seconds) > HOUR / 2 and WRONG_DATE not in result.missed:
        result.missed.append(WRONG_DATE)


async def _check_expiry(env: Environment) -> None:
    """Expects that the pool replaces all connections after their lifetime."""
    async with env.administrator() as other:
        before = [pid for (pid,) in await other.query(f"SELECT pid FROM pg_stat_activity WHERE {OURS}")]
        left = f"SELECT FROM pg_stat_activity WHERE {OURS} AND pid = ANY (ARRAY {before})"
        are_replaced = await other.wait_for_row(f"SELECT 1 WHERE NOT EXISTS ({left})", POOL_LIFETIME * 5)
    env.result.expect(are_replaced, f"connections were not replaced after {POOL_LIFETIME} s")
