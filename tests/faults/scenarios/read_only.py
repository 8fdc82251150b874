"""PostgreSQL only reads: by a setting, as a standby, or because its disk is full."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from time import monotonic

from psycopg import OperationalError

from tests.faults.clients import Load
from tests.faults.environment import Environment, environment
from tests.faults.matrix import Result, Run, Skipped, scenario
from tests.faults.proxy import Proxy
from tests.faults.report import recovery
from tests.support.servers import PostgresServer

CALM = 1.0
"""Seconds without a refused write after which the server counts as recovered."""
RECOVERY_TIMEOUT = 30.0
SETTING = "default_transaction_read_only"
LAST_REFUSED = "last write refused after"


@scenario("read-only by a setting", goal="reads 200, writes 503, recovery without help; nothing acknowledged lost")
async def by_setting(run: Run, result: Result) -> None:
    """Alternates between a setting of the server, which open sessions follow, and one of the database.

    Only new sessions follow the setting of the database. When it is reset, sessions that began meanwhile still only
    read.
    """
    async with (
        environment(run, result) as env,
        env.administrator() as admin,
        # With retries, a client whose write is refused would not read.
        env.load(retry=False) as found,
    ):
        for _, target in zip(range(run.rounds(20, 2)), cycle(("SYSTEM", "DATABASE todo")), strict=False):
            await found.next_success(writes_only=True)
            await admin.execute(f"ALTER {target} SET {SETTING} = on", "SELECT pg_reload_conf()")
            if target != "SYSTEM":
                await admin.terminate()
            await _check_reads_only(found, result)
            await admin.execute(f"ALTER {target} RESET {SETTING}", "SELECT pg_reload_conf()")
            await _recover(found, result)


async def _check_reads_only(found: Load, result: Result, *, some_writes: bool = False) -> None:
    """Waits until a write is refused, and checks the responses from then on."""
    await found.next_response((503,), writes_only=True)
    # PostgreSQL takes a moment to read its settings, and earlier requests are not meant.
    await asyncio.sleep(0.3)
    since = monotonic()
    await asyncio.sleep(1.0)
    seen = [sample for sample in found.samples if sample.sent >= since]
    reads, writes = ({each.status for each in seen if each.is_write is wanted} for wanted in (False, True))
    result.expect(reads <= {200, 404}, f"reads were answered with {sorted(reads)}")
    result.expect(200 in reads, "nothing was read")
    result.expect(some_writes or writes <= {503}, f"writes were answered with {sorted(writes)}")
    result.rounds += 1


async def _recover(found: Load, result: Result) -> None:
    """Waits until no write is refused any more. Measures the first success and the last refusal."""
    last = since = monotonic()
    result.recoveries.append(await found.next_success(writes_only=True))
    while monotonic() < last + CALM:
        await asyncio.sleep(0.1)
        last = max([last, *(each.sent for each in found.refusals_since(last) if each.is_write)])
        if monotonic() > since + RECOVERY_TIMEOUT:
            result.expect(False, f"writes are still refused {RECOVERY_TIMEOUT:g} s later")
            return
    longest = max(last - since, float(result.figures.get(LAST_REFUSED, "0").split(" ")[0]))
    result.figures[LAST_REFUSED] = f"{longest:.2f} s"


@scenario("a hot standby takes over", goal="reads 200, writes 503 until it is promoted; nothing acknowledged lost")
async def standby(run: Run, result: Result) -> None:
    """The primary acknowledges only writes that the standby has. It is killed, and its address leads to the standby."""
    switched: list[float] = []
    async with AsyncExitStack() as stack, environment(run, result, via="proxy") as env:
        async with env.load(retry=False) as found:
            for number in range(run.rounds(5, 1)):
                await found.next_success(writes_only=True)
                next_one = await _add_synchronous_standby(run, stack, env, number)
                await found.next_success(writes_only=True)
                await asyncio.to_thread(env.postgres.kill)
                env.proxy.target = next_one.port
                env.proxy.cut_all()
                env.postgres = next_one
                switched.append(await found.next_success())
                await _check_reads_only(found, result)
                async with env.administrator() as admin:
                    await admin.query("SELECT pg_promote()")
                await _recover(found, result)
        result.figures["first read from the standby after p50 / p99"] = recovery(switched)


@scenario(
    "the synchronous standby is gone",
    goal="no write is acknowledged that the standby does not have: none is lost when it takes over",
)
async def lost_standby(run: Run, result: Result) -> None:
    """Freezes the standby for several deadlines under load. Then the primary is killed, and the standby takes over."""
    settings = {"REQUEST_TIMEOUT": "1.5"}
    async with (
        AsyncExitStack() as stack,
        environment(run, result, via="proxy", settings=settings) as env,
        env.load(retry=False) as found,
    ):
        for number in range(run.rounds(5, 1)):
            await found.next_success(writes_only=True)
            standby = await _add_synchronous_standby(run, stack, env, number)
            await found.next_success(writes_only=True)
            await asyncio.to_thread(standby.freeze)
            # A commit that was sent to the standby before may be confirmed yet.
            await asyncio.sleep(0.5)
            since = monotonic()
            await asyncio.sleep(4 if run.quick else 8)
            acknowledged = [
                each for each in found.samples if each.is_write and each.sent >= since and each.status < 300
            ]
            result.expect(not acknowledged, f"{len(acknowledged)} writes were acknowledged without the standby")
            refused = [each for each in found.refusals_since(since) if each.is_write]
            result.expect(bool(refused), "no write was refused")
            await asyncio.to_thread(env.postgres.kill)
            await asyncio.to_thread(standby.thaw)
            env.proxy.target = standby.port
            env.proxy.cut_all()
            env.postgres = standby
            async with env.administrator() as admin:
                await admin.query("SELECT pg_promote()")
                await admin.configure("RESET synchronous_standby_names")
            result.rounds += 1
            await _recover(found, result)


@scenario(
    "failover to the second host of the URL",
    goal="the first host is silent: success within its share of the time limit; nothing acknowledged lost",
)
async def second_host(run: Run, result: Result) -> None:
    """The hosts take turns: the primary's address goes silent, the primary is killed, and the standby takes over.

    The workers' URL names both, with `target_session_attrs=read-write`.
    """
    with Proxy(0) as other:
        async with AsyncExitStack() as stack, environment(run, result, via="proxy", second_host=other.port) as env:
            spare = other
            async with env.load(retry=False) as found:
                for number in range(run.rounds(6, 2)):
                    await found.next_success(writes_only=True)
                    standby = await _add_synchronous_standby(run, stack, env, number)
                    spare.target = standby.port
                    spare.resume()
                    await found.next_success(writes_only=True)
                    env.proxy.stall()
                    await asyncio.to_thread(env.postgres.kill)
                    env.postgres, env.proxy, spare = standby, spare, env.proxy
                    async with env.administrator() as admin:
                        await admin.query("SELECT pg_promote()")
                        await admin.configure("RESET synchronous_standby_names")
                    result.rounds += 1
                    result.recoveries.append(await found.next_success(writes_only=True))


async def _add_synchronous_standby(run: Run, stack: AsyncExitStack, env: Environment, number: int) -> PostgresServer:
    """Starts a standby that each acknowledged write can be read on from now on."""
    following = env.postgres.standby(run.folder / f"standby-{number}")
    standby = await asyncio.to_thread(stack.enter_context, following)
    async with env.administrator() as admin:
        await admin.configure("synchronous_standby_names = '*'", "synchronous_commit = remote_apply")
        await admin.wait_for_row("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
    return standby


@scenario(
    "disk full", goal="reads 200, writes 503, recovery without help when there is room; nothing acknowledged lost"
)
async def disk_full(run: Run, result: Result) -> None:
    """The tasks are on a disk of their own. Writes into pages with free room still succeed."""
    with _mounted(run.folder / "disk", "48m") as disk:
        async with environment(run, result) as env, env.administrator() as admin:
            (space := disk / "space").mkdir(mode=0o700)
            if (owner := env.postgres._server._user) is not None:
                os.chown(space, owner, -1)
            await admin.execute(
                f"CREATE TABLESPACE small LOCATION '{space}'",
                "ALTER TABLE tasks SET TABLESPACE small",
                "ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE small",
            )
            async with env.load(retry=False) as found:
                for _ in range(run.rounds(10, 1)):
                    await found.next_success(writes_only=True)
                    with _filled(disk):
                        await _check_reads_only(found, result, some_writes=True)
                    await _recover(found, result)


@scenario("disk full (write-ahead log)", goal="503 while PostgreSQL is down for this reason; nothing acknowledged lost")
async def log_full(run: Run, result: Result) -> None:
    """PostgreSQL then shuts down, and has to be started when there is room again."""
    settings = ("max_wal_size=64MB", "min_wal_size=32MB")
    with _mounted(run.folder / "disk", "160m") as disk:
        async with environment(run, result, postgres_settings=settings) as env:
            await asyncio.to_thread(_move_log, env, disk)
            async with env.load() as found:
                for _ in range(run.rounds(5, 1)):
                    await found.next_success(writes_only=True)
                    with _filled(disk):
                        await _fill_log(env)
                        await found.next_response((503,), writes_only=True)
                    # PostgreSQL may be in the middle of an attempt to start, which then fails.
                    await asyncio.to_thread(env.postgres.kill)
                    await asyncio.to_thread(env.postgres.start)
                    result.recoveries.append(await found.next_success(writes_only=True))
                    result.rounds += 1


def _move_log(env: Environment, disk: Path) -> None:
    env.postgres.stop()
    log = env.postgres.folder / "data" / "pg_wal"
    subprocess.run(["mv", log, disk / "log"], check=True)
    log.symlink_to(disk / "log")
    env.postgres.start()


async def _fill_log(env: Environment) -> None:
    """Writes new files of the log until PostgreSQL cannot make one, which ends this connection too."""
    started = monotonic()
    try:
        async with env.administrator() as admin:
            while monotonic() < started + RECOVERY_TIMEOUT:
                await admin.query("SELECT pg_logical_emit_message(false, 'ballast', repeat('x', 1000000))")
    except OperationalError:
        return
    raise TimeoutError("the log was never full")


@contextmanager
def _mounted(disk: Path, size: str) -> Iterator[Path]:
    """Mounts a small disk. Raises `Skipped` without the right to mount."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Skipped("filling a disk takes the right to mount one")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """Fills the disk."""
    file = disk / "ballast"
    subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=4k"], capture_output=True, check=False)
    try:
        yield
    finally:
        file.unlink()
