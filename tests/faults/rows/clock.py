"""A wall clock that is moved under the web server's feet, and under PostgreSQL's: nobody notices but who reads it."""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import cycle
from unittest.mock import patch
from uuid import UUID

import psycopg

from tests.faults.bed import Bed, bed
from tests.faults.clients import load
from tests.faults.history import History
from tests.faults.http import Http
from tests.faults.matrix import Result, Stage, fault
from tests.faults.verdict import judge
from tests.faults.wall_clock import WallClock

HOUR = 3600
REQUEST_TIMEOUT = 2.0
POOL_LIFETIME = 4
HEAD_TIMEOUT = 10.0
"""Seconds that a client has to say what it wants."""
SLACK = 0.25
STOP_TIMEOUT = 5.0
WRONG_DATE = "the header `Date` does not go along with the clock"
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'todo'"


@fault("clock moved by an hour either way", goal="no hang, no wrong deadline")
async def moved_clock(stage: Stage) -> Result:
    result, history = Result(), History()
    web, postgres = WallClock(stage.folder / "web"), WallClock(stage.folder / "postgres")
    moves = cycle([(web, HOUR), (postgres, HOUR), (web, -HOUR), (postgres, -HOUR), (web, 0), (postgres, 0)])
    async with AsyncExitStack() as stack:
        # PostgreSQL takes its clock from this process's environment, gunicorn from what the bed is told.
        with patch.dict(os.environ, postgres.environment):
            ground = await stack.enter_async_context(
                bed(
                    stage.folder,
                    REQUEST_TIMEOUT=str(REQUEST_TIMEOUT),
                    DATABASE_POOL_LIFETIME=str(POOL_LIFETIME),
                    LD_PRELOAD=web.environment["LD_PRELOAD"],
                    WALL_CLOCK_OFFSET=web.environment["WALL_CLOCK_OFFSET"],
                )
            )
        *users, user_id = ground.users
        half_sent = asyncio.create_task(_send_half(ground.web.port))
        async with load(ground.web.port, users, history, pause=0.01) as traffic:
            kept = Http(ground.web.port)
            late = []
            for _ in range(stage.rounds(24, 4)):
                late.append(await _move(result, ground, kept, user_id, *next(moves)))
                await _see_where_they_are(result, kept, user_id, web, postgres)
            await _see_connections_retire(result, ground)
            kept.close()
        slowest = max(sample.seconds for sample in traffic.samples)
        result.expect(slowest < REQUEST_TIMEOUT, f"a request took {slowest:.2f} s")
        result.figures["503 after the deadline"] = f"{max(late) * 1000:.0f} ms at the latest"
        result.goal(max(late) < SLACK, f"a request was answered {max(late):.2f} s after its deadline")
        given = await half_sent
        result.figures["half a request was given"] = f"{given:.1f} s"
        result.expect(HEAD_TIMEOUT / 2 < given < HEAD_TIMEOUT * 2, f"half a request was given {given:.1f} s")
        await ground.settle(result)
        started = time.monotonic()
        status = await asyncio.to_thread(ground.web.stop)
        result.expect(status == 0, f"told to stop, it ended with {status}")
        result.goal(time.monotonic() - started < STOP_TIMEOUT, f"it took {time.monotonic() - started:.1f} s to stop")
        judge(history, ground.conninfo).add_to(result)
    result.failed += traffic.unavailable + traffic.cut + len(traffic.failures)
    result.violations += traffic.failures[:5]
    return result


async def _move(result: Result, ground: Bed, kept: Http, user_id: UUID, clock: WallClock, seconds: int) -> float:
    """Moves a clock while a request waits for a locked row; returns by how much it was answered too late."""
    result.rounds += 1
    tasks, waiting = f"/api/{user_id}/tasks", Http(ground.web.port)
    created = await kept.request("POST", tasks, {"title": "Locked"})
    link, task_id = kept._link, created.json["id"]
    async with await psycopg.AsyncConnection.connect(ground.conninfo) as other:
        await other.execute("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", [task_id])
        request = asyncio.create_task(waiting.request("PATCH", f"{tasks}/{task_id}", {"priority": "high"}))
        await asyncio.sleep(REQUEST_TIMEOUT / 5)
        clock.move(seconds)
        health = await kept.request("GET", "/api/v1/health")
        answer = await request
    result.expect(health.status == 200, f"its health is {health.status}")
    result.expect(answer.status == 503, f"behind a locked row it answered {answer.status}")
    result.unavailable += answer.status == 503
    late = answer.seconds - REQUEST_TIMEOUT
    result.expect(-0.1 < late < REQUEST_TIMEOUT, f"its deadline came after {answer.seconds:.2f} s")
    again = await kept.request("GET", f"{tasks}/{task_id}")
    result.expect(again.status == 200 and kept._link is link, "the connection that was kept alive was closed")
    waiting.close()
    return late


async def _see_where_they_are(result: Result, kept: Http, user_id: UUID, web: WallClock, postgres: WallClock) -> None:
    """That the clocks are where they were moved to; otherwise nothing was tested."""
    statuses = []
    for offset in (-HOUR / 2, HOUR / 2):
        due = datetime.fromtimestamp(time.time() + web.seconds + offset, UTC).isoformat()
        answer = await kept.request("POST", f"/api/{user_id}/tasks", {"title": "What time is it?", "due_date": due})
        statuses.append(answer.status)
    result.expect(statuses == [400, 201], f"due half an hour ago, and in half an hour: {statuses}")
    stored = datetime.fromisoformat(answer.json["created_at"]).timestamp()
    result.expect(abs(stored - time.time() - postgres.seconds) < HOUR / 2, "PostgreSQL's clock was not moved")
    said = parsedate_to_datetime(answer.headers["date"]).timestamp()
    if abs(said - time.time() - web.seconds) > HOUR / 2 and WRONG_DATE not in result.missed:
        result.missed.append(WRONG_DATE)


async def _see_connections_retire(result: Result, ground: Bed) -> None:
    async with await psycopg.AsyncConnection.connect(ground.conninfo, autocommit=True) as other:
        before = set(await (await other.execute(OURS)).fetchall())
        for _ in range(POOL_LIFETIME * 10 * 5):
            if not before & set(await (await other.execute(OURS)).fetchall()):
                return
            await asyncio.sleep(0.1)
    result.expect(condition=False, text=f"connections did not retire after {POOL_LIFETIME} s")


async def _send_half(port: int) -> float:
    """Seconds until it gives up on somebody who sends half a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v1/live HTTP/1.1\r\nHost: te")
    started = time.monotonic()
    async with asyncio.timeout(60):
        await reader.read()
    writer.close()
    return time.monotonic() - started
