"""Migrations that are killed, held up, or wrong: whole or not at all, and nobody else has to wait for long."""

import asyncio
import random
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from itertools import cycle
from time import monotonic
from typing import NamedTuple

import psycopg

from persistence import migrator
from tests.faults.bed import Bed, bed
from tests.faults.braked import Braked, Database, braked, schema_of
from tests.faults.clients import Load, load
from tests.faults.herd import Herd, Report, herd, kill
from tests.faults.history import History
from tests.faults.matrix import Result, Stage, fault
from tests.faults.project import Project
from tests.faults.verdict import judge
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, PostgresServer

PROCESSES = 8
REVISIONS = tuple(migrator.revisions())


@fault(
    "8 processes migrate at once, one killed half-way",
    goal="one applies, the others wait and do nothing, the schema is whole; 100 times",
)
async def killed_half_way(stage: Stage) -> Result:
    result, rounds, in_a_statement = Result(), stage.rounds(100, 2), 0
    with PostgresServer(stage.folder / "pg") as postgres:
        async with herd() as processes, braked(postgres) as ground:
            for number in range(rounds):
                # Every second one dies in a statement that does not end, each statement in its turn, the others at any
                # time from the first statement to the last.
                endless = number // 2 % ground.statements + 1 if number % 2 else 0
                moment = ground.duration * (number + random.random()) / rounds
                in_a_statement += await _kill_one(result, ground, processes, endless, moment)
            await _kill_a_command(result, ground, stage.rounds(PROCESSES, 3))
    result.figures["killed in a statement"] = str(in_a_statement)
    return result


async def _kill_one(result: Result, ground: Braked, processes: Herd, endless: int, moment: float) -> bool:
    """Kills whoever has his turn, after `moment` seconds or in the statement; returns whether he was in one."""
    result.rounds += 1
    async with ground.new(endless) as database:
        pids = await processes.start(database.url, PROCESSES)
        ending = asyncio.create_task(processes.end())
        await database.begin(endless or 1)
        await asyncio.sleep(0 if endless else moment)
        # In the end they all have their turns, one after the other, until nobody has.
        victim, in_a_statement = await database.holder() or (str(pids[0]), False)
        kill(int(victim))
        killed = monotonic()
        while not ending.done():
            if (holder := await database.holder()) and holder[0] != victim:
                result.recoveries.append(monotonic() - killed)
                break
            await asyncio.sleep(0.002)
        reports = await ending
        what = f"killed in statement {endless}" if endless else f"killed after {moment:.2f} s"
        _judge(result, reports, int(victim), pids, what)
        await ground.check(result, database, what)
    return in_a_statement


def _judge(result: Result, reports: dict[int, Report], victim: int, pids: Sequence[int], what: str) -> None:
    """That one survivor did what the victim had left, and the others nothing."""
    result.expect(set(pids) - set(reports) <= {victim}, f"{what}: another one died: {reports}")
    errors = [report.error for report in reports.values() if report.error]
    result.expect(not errors, f"{what}: {errors}")
    done = [report.steps for report in reports.values() if report.steps]
    result.expect(len(done) <= 1, f"{what}: several have migrated: {done}")
    # The victim may have been at the end, and said so before it was killed.
    rest = REVISIONS[len(REVISIONS) - len(done[0]) :] if done else ()
    result.expect(not done or done[0] == rest, f"{what}: {done} is not what was left to do")


async def _kill_a_command(result: Result, ground: Braked, count: int) -> None:
    """The same with as many times `manage.py migrate_sql`, as it is typed."""
    result.rounds += 1
    async with ground.new(ground.statements // 2) as database:
        commands = [await _command(database, name) for name in map(str, range(count))]
        await database.begin(ground.statements // 2)
        victim, _ = await database.holder() or ("0", False)
        commands[int(victim)].kill()
        outputs = await asyncio.gather(*(command.communicate() for command in commands))
        del commands[int(victim)], outputs[int(victim)]
        for command, (out, err) in zip(commands, outputs, strict=True):
            result.expect(command.returncode == 0 and not err, f"a command ended with {command.returncode}: {err!r}")
            # Whoever came late enough saw it before waiting for a turn.
            result.expect(b"Nothing to do" in out or b"up to" in out, f"a command said {out!r}")
        done = [steps for out, _ in outputs if (steps := re.findall(rb"^up to (\d+)", out, re.MULTILINE))]
        result.expect(len(done) == 1, f"several commands have migrated, or none: {done}")
        await ground.check(result, database, "a command killed")


async def _command(database: Database, name: str) -> asyncio.subprocess.Process:
    environment = {"ENVIRONMENT": "production", "DATABASE_URL": database.url, "PGAPPNAME": name}
    return await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "manage.py", "migrate_sql",
        env=clean_environment() | environment, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


# A step that has to wait for the table, and that the running server can live with.
STEP = """
def upgrade() -> None:
    op.execute("ALTER TABLE tasks ADD COLUMN colour text")


def downgrade() -> None:
    op.execute("ALTER TABLE tasks DROP COLUMN colour")
"""
HELD = cycle(("ACCESS SHARE", "ROW EXCLUSIVE"))
"""What a long report holds of a table, or somebody who writes and does not commit."""


@fault(
    "a migration behind a long lock",
    goal=f"traffic is delayed by at most lock_timeout ({migrator.LOCK_TIMEOUT}) and no request fails; "
    "the migration fails whole, and succeeds when it is run again",
)
async def behind_a_long_lock(stage: Stage) -> Result:
    result, history, longest = Result(), History(), 0.0
    project = Project(stage.folder / "project")
    revision = project.add(STEP)
    async with bed(stage.folder) as ground:
        async with load(ground.web.port, ground.users, history, pause=0.02) as traffic:
            for _ in range(stage.rounds(10, 1)):
                await _fail_and_try_again(result, ground, traffic, project, revision)
                longest = max(longest, *(sample.seconds for sample in traffic.samples))
                traffic.samples.clear()
        await ground.settle(result)
        judge(history, ground.conninfo).add_to(result)
    result.failed += traffic.unavailable + traffic.cut + len(traffic.failures)
    result.violations += traffic.failures[:5]
    result.figures["longest delay"] = f"{longest:.2f} s"
    limit = float(migrator.LOCK_TIMEOUT.removesuffix("s"))
    result.expect(longest > limit / 2, "the migration has held nobody up, so nothing was tested")
    # What a request takes anyway on a machine as busy as this comes on top.
    result.goal(longest < limit + 0.5, f"a request took {longest:.2f} s")
    return result


async def _fail_and_try_again(result: Result, ground: Bed, traffic: Load, project: Project, revision: str) -> None:
    result.rounds += 1
    dsn, url = ground.postgres.dsn, ground.postgres.url
    before = await asyncio.to_thread(schema_of, dsn)
    async with await psycopg.AsyncConnection.connect(ground.conninfo) as other:
        await other.execute(f"LOCK TABLE tasks IN {next(HELD)} MODE".encode())
        failed = await project.migrate(url)
        # The lock is still there, but whoever waited behind the migration is let by as soon as that gave up.
        result.recoveries.append(await traffic.next_success(writes_only=True))
    result.expect(failed.status == 1, f"behind a lock it ended with {failed.status}")
    for words in (f"Step {revision} ", "left nothing behind", "lock timeout", "run it again", "ALTER TABLE"):
        result.expect(words in failed.err, f"it does not say {words!r}: {failed.err}")
    result.expect(await asyncio.to_thread(schema_of, dsn) == before, "the step that failed has left something")
    again = await project.migrate(url)
    result.expect(f"up to {revision}" in again.out, f"run again, it ended with {again}")
    down = await project.migrate(url, "--down", "1")
    result.expect(f"down from {revision}" in down.out, f"run backwards, it ended with {down}")


class Broken(NamedTuple):
    """The body of a step that cannot be run, and what must be said of it beside its revision."""

    body: str
    said: Sequence[str]


def _step(*statements: str) -> str:
    lines = "".join(f"    op.execute({statement!r})\n" for statement in statements)
    return f"def upgrade() -> None:\n{lines}\n\ndef downgrade() -> None:\n    pass\n"


WHOLE = [f"CREATE TABLE half_{number} (id int PRIMARY KEY)" for number in range(6)]
WRONG = {
    "CREATE TABEL half ()": 'syntax error at or near "TABEL"',
    "ALTER TABLE users ADD CHECK (email = 'nobody')": "is violated by some row",
    "ALTER TABLE nowhere ADD x text": 'relation "nowhere" does not exist',
}
DEFERRED = "CREATE TABLE late (id int REFERENCES half_0 DEFERRABLE INITIALLY DEFERRED)"
OTHERWISE = (
    Broken("def upgrade() -> None:\n    op.execute('open\n", ["cannot be read", "unterminated string", "line 10"]),
    Broken(_step(*WHOLE, DEFERRED, "INSERT INTO late VALUES (1)"), ["violates foreign key constraint"]),
    Broken(_step(*WHOLE).replace("op.execute", "op.exekute", 1), ["exekute"]),
)


@fault(
    "a step that fails half-way, a syntax error in a step",
    goal="nothing of the step remains; the message names the step and the statement",
)
async def broken_step(stage: Stage) -> Result:
    result = Result()
    # Each kind of mistake at each place.
    cases = [
        Broken(_step(*WHOLE[:place], statement, *WHOLE[place:]), [said, f"in: {statement}"])
        for place in range(len(WHOLE) + 1)
        for statement, said in WRONG.items()
    ]
    cases = [*OTHERWISE[:2], *cases[len(cases) // 2 :][:2]] if stage.quick else [*OTHERWISE, *cases]
    project = Project(stage.folder / "project")
    with PostgresServer(stage.folder / "pg") as postgres:
        before = project.add(_step("CREATE TABLE older ()"))
        await project.migrate(postgres.url)
        with psycopg.connect(postgres.dsn.conninfo) as connection:
            connection.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'somebody@example.com')")
        schema = schema_of(postgres.dsn)
        revision = project.add("")
        project.add(_step("CREATE TABLE newer ()"))
        for broken in cases:
            result.rounds += 1
            project.write(revision, broken.body)
            ended = await project.migrate(postgres.url)
            result.expect(ended.status == 1 and len(ended.err.splitlines()) == 1, f"it is not one message: {ended}")
            for words in (revision, *broken.said):
                result.expect(words in ended.err, f"it does not say {words!r}: {ended.err}")
            result.expect(await asyncio.to_thread(schema_of, postgres.dsn) == schema, f"something is left: {broken}")
            current = await asyncio.to_thread(migrator.current, postgres.dsn)
            result.expect(current == before, f"the database is at {current} after {broken}")
        project.write(revision, _step(*WHOLE))
        mended = await project.migrate(postgres.url)
        result.expect(mended.status == 0 and mended.out.count("up to") == 2, f"mended, it ended with {mended}")
    return result
