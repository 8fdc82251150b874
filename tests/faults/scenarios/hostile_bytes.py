"""Bytes that may not be HTTP: the generated requests of `tests.fuzz`."""

import asyncio
from collections import Counter

from tests.faults.matrix import Result, Run, scenario
from tests.fuzz.site import harm, site
from tests.fuzz.storm import storm

SEED = 5


FEW_AT_ONCE = ("/export", "/import", "other methods")
"""The ends of labels of requests of which few run at once, so that 503 is an answer to them."""


@scenario(
    "hostile bytes",
    goal="no 5xx but the 503 of exports and imports, of which few run at once; no incomplete response, none with the "
    "data of another user, no hang",
)
async def hostile_bytes(run: Run, result: Result) -> None:
    await asyncio.to_thread(_send, run, result)


def _send(run: Run, result: Result) -> None:
    with site() as (web, dsn):
        report = storm(web.port, dsn, SEED, run.rounds(200_000, 5000))
        result.violations += [*report.failures, *harm(web, dsn)]
    statuses = Counter[int]()
    for (label, status), number in report.answers.items():
        statuses[status] += number
        if status == 503 and label.endswith(FEW_AT_ONCE):
            result.unavailable += number
    result.rounds = statuses.total()
    result.failed = sum(number for status, number in statuses.items() if status >= 500) - result.unavailable
    result.figures = {str(status or "closed"): f"{number:,}" for status, number in sorted(statuses.items())}
