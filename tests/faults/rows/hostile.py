"""Clients who mean harm: bytes that may be no HTTP, and a clock held against the answers about tasks of others."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial
from uuid import UUID

from tests.faults.matrix import Result, Stage, fault
from tests.fuzz.conversation import request
from tests.fuzz.site import harm, site
from tests.fuzz.storm import storm
from tests.fuzz.timing import compare, furnish

SEED = 5
TASKS = 20_000
REQUESTS: dict[str, tuple[str, dict[str, str], str | None]] = {
    "GET": ("GET", {}, None),
    "PUT": ("PUT", {}, '{"title": "Mine now"}'),
    "PATCH": ("PATCH", {}, '{"title": "Mine now"}'),
    "DELETE": ("DELETE", {}, None),
    "DELETE If-Match": ("DELETE", {"If-Match": '"1"'}, None),
}
EQUAL = (0.48, 0.52)
"""The chances, of an answer about a foreign task to take longer than one about no task, that no one can use."""


@fault("hostile bytes", goal="no 5xx, no half an answer, none that belongs to somebody else, no hang")
async def hostile_bytes(stage: Stage) -> Result:
    return await asyncio.to_thread(_send_bytes, stage)


def _send_bytes(stage: Stage) -> Result:
    result = Result()
    with site() as (web, dsn):
        report = storm(web.port, dsn, SEED, stage.rounds(200_000, 5000))
        result.violations += [*report.failures, *harm(web, dsn)]
    statuses = Counter[int]()
    for (_, status), number in report.answers.items():
        statuses[status] += number
    result.rounds = statuses.total()
    result.failed = sum(number for status, number in statuses.items() if status >= 500)
    result.figures = {str(status or "closed"): f"{number:,}" for status, number in sorted(statuses.items())}
    return result


@fault("not mine or not there", goal="no operation tells them apart by time: AUC within 0.48 and 0.52")
async def foreign_or_missing(stage: Stage) -> Result:
    return await asyncio.to_thread(_hold_a_clock, stage)


def _write(method: str, user: UUID, headers: Mapping[str, str], body: str | None, task: UUID) -> bytes:
    return request(method, f"{user}/tasks/{task}", headers, body)


def _hold_a_clock(stage: Stage) -> Result:
    result = Result()
    with site() as (web, dsn):
        alice, theirs = furnish(dsn, TASKS)
        for name, (method, headers, body) in REQUESTS.items():
            write = partial(_write, method, alice, headers, body)
            found = compare(web.port, write, theirs, stage.rounds(10_000, 1000), SEED)
            result.rounds += len(found.foreign)
            result.figures[name] = str(found)
            low, high = found.interval
            # Where few were asked, only a difference that is beyond doubt counts.
            least, most = (high, low) if stage.quick else (low, high)
            result.goal(EQUAL[0] <= least and most <= EQUAL[1], f"{name}: {found}")
    return result
