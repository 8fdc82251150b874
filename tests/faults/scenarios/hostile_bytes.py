"""Bytes that may not be HTTP: the generated requests of `tests.fuzz`."""

import asyncio
from collections import Counter

from tests.faults.matrix import Result, Run, scenario
from tests.fuzz.site import harm, site
from tests.fuzz.storm import storm

SEED = 5


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
    for (_, status), number in report.answers.items():
        statuses[status] += number
    result.rounds = statuses.total()
    result.failed = sum(number for status, number in statuses.items() if status >= 500 and status != 503)
    # Any other 503 than the one that says so is a failure of the storm.
    result.unavailable = statuses[503]
    result.figures = {str(status or "closed"): f"{number:,}" for status, number in sorted(statuses.items())}
