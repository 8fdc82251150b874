"""PostgreSQL only reads: it is told so, it is a standby, or its disk is full."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from itertools import cycle
from pathlib import Path
from time import monotonic

from tests.faults.administrator import Connection, ask, configure, connected, order, terminate, until
from tests.faults.bed import Bed, bed
from tests.faults.clients import Load, load
from tests.faults.history import History
from tests.faults.matrix import Result, Skipped, Stage, fault
from tests.faults.report import recovery
from tests.faults.verdict import conclude
from tests.support.servers import PostgresServer

CALM = 1.0
"""Seconds without a refused write after which the server counts as healed."""
HEALING = 30.0
READ_ONLY = "default_transaction_read_only"


@fault("read-only by a setting", goal="reads 200, writes 503, heals by itself; nothing acknowledged lost")
async def told(stage: Stage) -> Result:
    """By a setting of the server, which open sessions follow, and by one of the database, which only new ones know.

    So when the second is taken back, the sessions that began meanwhile still only read.
    """
    result = Result()
    async with bed(stage.folder) as made, connected(made.conninfo) as administrator:
        # Without repeats, because a client who insists on his write would read nothing.
        async with load(made.web.port, made.users, History(), retry=False) as found:
            ways = (_server_reads_only, _database_reads_only)
            for _, way in zip(range(stage.rounds(20, 2)), cycle(ways), strict=False):
                await found.next_success(writes_only=True)
                async with way(administrator):
                    await _reads_only(found, result)
                await _healed(found, result)
        await conclude(made, found, result)
    return result


@asynccontextmanager
async def _server_reads_only(administrator: Connection) -> AsyncIterator[None]:
    await configure(administrator, f"{READ_ONLY} = on")
    yield
    await configure(administrator, f"RESET {READ_ONLY}")


@asynccontextmanager
async def _database_reads_only(administrator: Connection) -> AsyncIterator[None]:
    await order(administrator, f"ALTER DATABASE todo SET {READ_ONLY} = on")
    await terminate(administrator)
    yield
    await order(administrator, f"ALTER DATABASE todo RESET {READ_ONLY}")


async def _reads_only(found: Load, result: Result, *, some_writes: bool = False) -> None:
    """Waits until a write is refused, and holds what is answered from then on to what it must be."""
    if not await _refused(found):
        result.expect(False, "no write was refused")
        return
    # What had begun before is not what this is about, and a server takes a moment to hear of its settings.
    await asyncio.sleep(0.3)
    since = monotonic()
    await asyncio.sleep(1.0)
    seen = [sample for sample in found.samples if sample.sent >= since]
    reads, writes = ({each.status for each in seen if each.is_write is wanted} for wanted in (False, True))
    result.expect(reads <= {200, 404}, f"reads were answered with {sorted(reads)}")
    result.expect(200 in reads, "nothing was read")
    result.expect(some_writes or writes <= {503}, f"writes were answered with {sorted(writes)}")
    result.rounds += 1


async def _refused(found: Load) -> bool:
    since = monotonic()
    while monotonic() < since + HEALING:
        if any(sample.sent >= since and sample.is_write and sample.status == 503 for sample in found.samples[-1000:]):
            return True
        await asyncio.sleep(0.01)
    return False


async def _healed(found: Load, result: Result) -> None:
    """Waits until no write is refused any more, and says when the first succeeded and the last did not."""
    since = monotonic()
    result.recoveries.append(await found.next_success(HEALING, writes_only=True))
    last = since
    while monotonic() < last + CALM:
        await asyncio.sleep(0.1)
        last = max([last, *(each.sent for each in found.samples[-1000:] if each.is_write and each.status == 503)])
        if monotonic() > since + HEALING:
            result.expect(False, f"writes are still refused {HEALING:g} s later")
            return
    longest = max(last - since, float(result.figures.get("last write refused after", "0").split(" ")[0]))
    result.figures["last write refused after"] = f"{longest:.2f} s"


@fault("a hot standby takes over", goal="reads 200, writes 503 until it is promoted; nothing acknowledged lost")
async def standby(stage: Stage) -> Result:
    """The primary acknowledges only what the standby has, is killed, and its address leads to the standby then."""
    result = Result()
    switched: list[float] = []
    async with AsyncExitStack() as stack, bed(stage.folder, via="proxy") as made:
        assert made.proxy
        async with load(made.web.port, made.users, History(), retry=False) as found:
            for turn in range(stage.rounds(5, 1)):
                await found.next_success(writes_only=True)
                next_one = PostgresServer(stage.folder / f"standby-{turn}")
                stack.callback(next_one.__exit__)
                await asyncio.to_thread(_copy, made.postgres, next_one)
                async with connected(made.conninfo) as administrator:
                    await _wait_for_standby(administrator)
                await found.next_success(writes_only=True)
                await asyncio.to_thread(made.postgres.kill)
                made.proxy.target = next_one.port
                made.proxy.cut_all()
                made.postgres = next_one
                switched.append(await found.next_success())
                await _reads_only(found, result)
                async with connected(made.conninfo) as administrator:
                    await ask(administrator, "SELECT pg_promote()")
                await _healed(found, result)
        result.figures["first read from the standby after p50 / p99"] = recovery(switched)
        await conclude(made, found, result)
    return result


def _copy(primary: PostgresServer, standby: PostgresServer) -> None:
    standby.folder.mkdir(mode=0o700)
    status, output = standby._server._run(
        "pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-R", "-X", "stream",
        "-c", "fast", "--no-sync",
    )  # fmt: skip
    assert status == 0, output
    standby.start()


async def _wait_for_standby(administrator: Connection) -> None:
    """From then on nothing is acknowledged that cannot be read on the standby."""
    await configure(administrator, "synchronous_standby_names = '*'", "synchronous_commit = remote_apply")
    await until(administrator, "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")


@fault("disk full", goal="reads 200, writes 503, heals by itself when there is room; nothing acknowledged lost")
async def disk_full(stage: Stage) -> Result:
    """The tasks are on a disk of their own; what fits into pages that have room is still written."""
    result = Result()
    disk = stage.folder / "disk"
    with _mounted(disk, "48m"):
        async with bed(stage.folder) as made, connected(made.conninfo) as administrator:
            space = disk / "space"
            space.mkdir(mode=0o700)
            _give(space, made)
            await order(
                administrator,
                f"CREATE TABLESPACE small LOCATION '{space}'",
                "ALTER TABLE tasks SET TABLESPACE small",
                "ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE small",
            )
            async with load(made.web.port, made.users, History(), retry=False) as found:
                for _ in range(stage.rounds(10, 1)):
                    await found.next_success(writes_only=True)
                    with _ballast(disk):
                        await _reads_only(found, result, some_writes=True)
                    await _healed(found, result)
            await conclude(made, found, result)
    return result


@fault("disk full (write-ahead log)", goal="503 while PostgreSQL is down for that; nothing acknowledged lost")
async def log_full(stage: Stage) -> Result:
    """PostgreSQL ends itself then, and has to be started when there is room again."""
    result = Result()
    disk = stage.folder / "disk"
    settings = ("max_wal_size=64MB", "min_wal_size=32MB")
    with _mounted(disk, "160m"):
        async with bed(stage.folder, postgres_settings=settings) as made:
            await asyncio.to_thread(_move_log, made, disk)
            async with load(made.web.port, made.users, History()) as found:
                for _ in range(stage.rounds(5, 1)):
                    await found.next_success(writes_only=True)
                    with _ballast(disk):
                        await _fill_log(made)
                        result.expect(await _refused(found), "no write was refused")
                    # It may be in the middle of trying to come up, and give that up only now.
                    await asyncio.to_thread(made.postgres.kill)
                    await asyncio.to_thread(made.postgres.start)
                    result.recoveries.append(await found.next_success(writes_only=True))
                    result.rounds += 1
            await conclude(made, found, result)
    return result


def _move_log(made: Bed, disk: Path) -> None:
    made.postgres.stop()
    log = made.postgres.folder / "data" / "pg_wal"
    subprocess.run(["cp", "-a", log, disk / "log"], check=True)
    subprocess.run(["rm", "-r", log], check=True)
    log.symlink_to(disk / "log")
    made.postgres.start()


async def _fill_log(made: Bed) -> None:
    """Begins new files of the log until PostgreSQL fails to make one, which ends this connection too."""
    from psycopg import OperationalError

    started = monotonic()
    try:
        async with connected(made.conninfo) as administrator:
            while monotonic() < started + HEALING:
                await ask(administrator, "SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1000000))")
    except OperationalError:
        return
    raise TimeoutError("the log never was full")


@contextmanager
def _mounted(disk: Path, size: str) -> Iterator[None]:
    """A small disk. Raises `Skipped` for whoever may not mount one."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Skipped("only who may mount a disk can fill one")
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", str(disk)], check=True)
        yield


def _give(folder: Path, made: Bed) -> None:
    if (owner := made.postgres._server._user) is not None:
        os.chown(folder, owner, -1)


@contextmanager
def _ballast(disk: Path) -> Iterator[None]:
    """Takes all the room that is left."""
    file = disk / "ballast"
    with file.open("wb", buffering=0) as ballast:
        for size in (2**20, 2**12):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                pass
    try:
        yield
    finally:
        file.unlink()
