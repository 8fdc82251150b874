"""Readers that poll to the end have the state of the database, and a feed that is broken on purpose is found out.

`make chaos` does the same for longer, and breaks servers and connections meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from persistence import purge
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.database.helpers import statement
from tests.faults.proxy import Proxy
from tests.support.databases import SERVER, as_owner, new_user
from tests.support.servers import PostgresServer, WebServer
from tests.support.sites import production
from tests.sync.commits import SETTINGS, Commits
from tests.sync.crowd import OWNERS, Crowd, crowd
from tests.sync.cuts import Cuts
from tests.sync.planted import BUGS, Bug, planted
from tests.sync.verdict import Fault, Findings

WRITES, CUT = 200, 0.1
"""Writes in all, and the share of the requests that are cut."""
REMOVE_TOMBSTONES = statement("DELETE FROM tasks WHERE is_erased RETURNING version AS value")
ROUNDS = 20
"""Times so many writes in which a planted bug must be found."""


@dataclass(frozen=True)
class Stage:
    dsn: Dsn
    web: WebServer

    @property
    def conninfo(self) -> str:
        return as_owner(self.dsn).conninfo


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Iterator[Stage]:
    """A server on a PostgreSQL whose log tells what was committed."""
    folder = tmp_path_factory.mktemp("sync")
    with PostgresServer(folder / "pg", *SETTINGS, template=cluster) as postgres:
        postgres.role = SERVER
        with production(postgres.dsn, folder) as web:
            yield Stage(postgres.dsn, web)


@pytest.fixture
def commits(stage: Stage) -> Iterator[Commits]:
    commits = Commits(stage.conninfo)
    yield commits
    commits.close()


async def run(
    stage: Stage, commits: Commits, beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
) -> tuple[Crowd, Findings]:
    """Writers and readers of new users, until `WRITES` were acknowledged.

    What runs beside them ends before the readers do, and before anything is compared.
    """
    users = [new_user(stage.dsn) for _ in range(OWNERS)]
    with Proxy(stage.web.port) as front:
        async with crowd(front.port, users, Cuts(front, share=CUT)) as found, beside():
            await found.pass_on(WRITES)
        return found, await asyncio.to_thread(found.check, commits, stage.conninfo)


@asynccontextmanager
async def purging(stage: Stage, *, raises_horizon: bool = True) -> AsyncIterator[None]:
    """Erases all that is in the trash and removes all tombstones, again and again until the end of the block."""

    async def purge_all() -> None:
        async with open_database(as_owner(stage.dsn), DatabaseOptions(PoolLimits(1, 2))) as database:
            while True:
                before = await purge.days_ago(database, 0)
                for kind in (purge.TRASH, purge.TOMBSTONES)[: 1 + raises_horizon]:
                    async for _ in purge.purge(database, kind, before):
                        pass
                if not raises_horizon:
                    await database.rows(REMOVE_TOMBSTONES, {})
                await asyncio.sleep(0.1)

    purging = asyncio.create_task(purge_all())
    yield
    purging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await purging


async def test_each_copy_is_the_state_of_the_database(stage: Stage, commits: Commits) -> None:
    found, findings = await run(stage, commits, partial(purging, stage))

    assert findings.faults == []
    assert findings.writes >= WRITES
    assert sum(found.cuts.made.values()) > 0


async def assert_found(
    stage: Stage,
    commits: Commits,
    *faults: Fault,
    beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> None:
    counts: Counter[Fault] = Counter()
    for _ in range(ROUNDS):
        counts += (await run(stage, commits, beside))[1].counts
        if counts.keys() >= {*faults}:
            return
    pytest.fail(f"found {counts} instead of {faults}")


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
async def test_a_planted_bug_is_found(stage: Stage, commits: Commits, bug: Bug) -> None:
    with planted(stage.dsn, bug):
        await assert_found(stage, commits, *bug.faults)


@pytest.mark.slow
async def test_a_purge_that_does_not_raise_the_horizon_is_found(stage: Stage, commits: Commits) -> None:
    await assert_found(stage, commits, "missed", beside=partial(purging, stage, raises_horizon=False))
