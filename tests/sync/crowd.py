"""Many writers and a few readers at once, and what is to be compared when they have ended."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from tests.faults.http import Http
from tests.faults.matrix import Result
from tests.sync.commits import Commits, SpreadCommits
from tests.sync.cuts import Cuts
from tests.sync.log import Log
from tests.sync.readers import Reader
from tests.sync.rows import Row
from tests.sync.verdict import Findings, Key, check
from tests.sync.writers import Keys, Writer

COLUMNS = [name if name != "erased" else "is_erased" for name in Row._fields]
TABLE = f"SELECT {', '.join(f'{name}::text' for name in COLUMNS)} FROM tasks WHERE user_id = ANY(%s)"
WRITERS, READERS, OWNERS = 20, 4, 2


@dataclass
class Crowd:
    log: Log
    writers: list[Writer]
    readers: list[Reader]
    cuts: Cuts
    faults: Counter[str] = field(default_factory=Counter)
    """Faults other than cuts that were made meanwhile, by kind."""

    async def pass_on(self, writes: int) -> None:
        """Waits until so many more writes were answered with success."""
        end = self.log.acknowledged + writes
        while self.log.acknowledged < end:  # noqa: ASYNC110 - an event for each answer would cost more
            await asyncio.sleep(0.02)

    def check(self, commits: Commits | SpreadCommits, conninfo: str) -> Findings:
        """Compares everything. Blocks."""
        return check(self.log, commits.read(), table(conninfo, self.log.users), self.readers)

    def report(self, findings: Findings, result: Result) -> None:
        """Adds the findings and the numbers to the result of a scenario."""
        counts, statuses = findings.counts, sum((writer.statuses for writer in self.writers), Counter[int]())
        made = self.faults + self.cuts.made
        result.rounds += sum(made.values())
        result.lost += counts["lost"]
        result.doubled += counts["doubled"]
        result.acknowledged += self.log.acknowledged
        result.unavailable += statuses[503]
        result.violations += [f"{fault}: {text}" for fault, text in findings.faults]
        result.figures |= {
            "writes committed": f"{findings.writes:,}",
            "faults": ", ".join(f"{number:,} {kind}" for kind, number in made.most_common()) or "none",
            "requests sent again after their answer": f"{sum(writer.repeats for writer in self.writers):,}",
            "polls": f"{sum(reader.polls for reader in self.readers):,}",
            "begun anew after 410": f"{sum(reader.gone for reader in self.readers):,}",
            "missed": f"{counts['missed']:,}",
            "resurrected": f"{counts['resurrected']:,}",
            "out of order": f"{counts['disordered']:,}",
        }


@asynccontextmanager
async def crowd(
    port: int, users: Sequence[UUID], cuts: Cuts | None = None, *, writers: int = WRITERS, pause: float = 0.002
) -> AsyncIterator[Crowd]:
    """Runs writers and readers of these users until the block ends. Then each reader polls until there is no more."""
    log, keys, cuts = Log(), Keys(), cuts or Cuts()
    log.users.update(users)
    found = Crowd(
        log,
        [Writer(users[n % len(users)], Http(port), log, cuts, keys, pause) for n in range(writers)],
        [Reader(f"reader {n}", users[n % len(users)], Http(port), log, cuts) for n in range(READERS)],
        cuts,
    )
    ending = asyncio.Event()
    writing = [asyncio.create_task(writer.work(ending)) for writer in found.writers]
    reading = [asyncio.create_task(reader.work(ending)) for reader in found.readers]
    try:
        yield found
    finally:
        ending.set()
        await asyncio.gather(*writing, *reading)
    await asyncio.gather(*(reader.finish() for reader in found.readers))


def table(conninfo: str, users: set[UUID]) -> dict[Key, Row]:
    """All tasks of these users, those in the trash and the erased ones included."""
    with psycopg.connect(conninfo, options="-c timezone=UTC -c datestyle=ISO") as connection:
        lines = connection.execute(TABLE.encode(), [list(users)]).fetchall()
    rows = (Row.of_text(dict(zip(COLUMNS, line, strict=True))) for line in lines)
    return {(row.user_id, row.id): row for row in rows}
