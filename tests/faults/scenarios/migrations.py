"""Migrations that are killed, wait for locks, or are wrong: each revision is applied completely or not at all."""

import asyncio
import os
import random
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from time import monotonic
from typing import NamedTuple

import psycopg

from persistence import history, migrator
from persistence.postgres.pool import RENEWED_AFTER
from tests.faults.clients import Load
from tests.faults.environment import Environment, environment
from tests.faults.matrix import Result, Run, scenario
from tests.faults.migrators import Migrators, Report, migrators
from tests.faults.project import Project
from tests.faults.slow_migrations import Database, SlowMigrations, schema_of, slow_migrations
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, PostgresServer

PROCESSES = 8
REVISIONS = tuple(history.revisions())


@scenario(
    "8 processes migrate at once, one killed half-way",
    goal="one applies, the others wait and do nothing, the schema is complete; 100 times",
)
async def killed_half_way(run: Run, result: Result) -> None:
    rounds, in_a_statement = run.rounds(100, 2), 0
    with PostgresServer(run.folder / "pg") as postgres:
        async with migrators() as processes, slow_migrations(postgres) as databases:
            for number in range(rounds):
                # Every second process is killed in a statement that does not end, one statement after the other. The
                # others are killed at any time from the first statement to the last.
                endless = number // 2 % databases.statements + 1 if number % 2 else 0
                moment = databases.duration * (number + random.random()) / rounds
                in_a_statement += await _kill_one(result, databases, processes, endless, moment)
            await _kill_a_command(result, databases, run.rounds(PROCESSES, 3))
    result.figures["killed in a statement"] = str(in_a_statement)


async def _kill_one(
    result: Result, databases: SlowMigrations, processes: Migrators, endless: int, moment: float
) -> bool:
    """Kills the process with the migration lock, after `moment` seconds or in the endless statement.

    Returns True if the process was in a statement.
    """
    result.rounds += 1
    async with databases.new(endless) as database:
        pids = await processes.start(database.url, PROCESSES)
        waiting = asyncio.create_task(processes.wait())
        await database.wait_for_statement(endless or 1)
        await asyncio.sleep(0 if endless else moment)
        # At the end all processes get the lock, one after the other, and then none holds it.
        victim, is_in_a_statement = await database.holder() or (str(pids[0]), False)
        with suppress(ProcessLookupError):
            os.kill(int(victim), signal.SIGKILL)
        killed = monotonic()
        while not waiting.done():
            if (holder := await database.holder()) and holder[0] != victim:
                result.recoveries.append(monotonic() - killed)
                break
            await asyncio.sleep(0.002)
        reports = await waiting
        what = f"killed in statement {endless}" if endless else f"killed after {moment:.2f} s"
        _check_reports(result, reports, int(victim), pids, what)
        await databases.check(result, database, what)
    return is_in_a_statement


def _check_reports(result: Result, reports: dict[int, Report], victim: int, pids: Sequence[int], what: str) -> None:
    """Expects that one process applied the revisions that the killed one had not, and the others none."""
    result.expect(set(pids) - set(reports) <= {victim}, f"{what}: another process ended: {reports}")
    errors = [error for _, error in reports.values() if error]
    result.expect(not errors, f"{what}: {errors}")
    done = [revisions for revisions, _ in reports.values() if revisions]
    result.expect(len(done) <= 1, f"{what}: several processes have migrated: {done}")
    # The killed process may have applied all revisions and reported them.
    rest = REVISIONS[len(REVISIONS) - len(done[0]) :] if done else ()
    result.expect(not done or done[0] == rest, f"{what}: {done} are not the missing revisions")


async def _kill_a_command(result: Result, databases: SlowMigrations, count: int) -> None:
    """Kills one of as many `manage.py migrate_sql`."""
    result.rounds += 1
    async with databases.new(databases.statements // 2) as database:
        commands = [await _command(database, name) for name in map(str, range(count))]
        await database.wait_for_statement(databases.statements // 2)
        victim, _ = await database.holder() or ("0", False)
        commands[int(victim)].kill()
        outputs = await asyncio.gather(*(command.communicate() for command in commands))
        del commands[int(victim)], outputs[int(victim)]
        for command, (out, err) in zip(commands, outputs, strict=True):
            result.expect(command.returncode == 0 and not err, f"a command ended with {command.returncode}: {err!r}")
            # A command that started late has nothing to wait for.
            result.expect(b"Nothing to do" in out or b"up to" in out, f"a command printed {out!r}")
        done = [revisions for out, _ in outputs if (revisions := re.findall(rb"^up to (\d+)", out, re.MULTILINE))]
        result.expect(len(done) == 1, f"several commands have migrated, or none: {done}")
        await databases.check(result, database, "a command killed")


async def _command(database: Database, name: str) -> asyncio.subprocess.Process:
    # The project ignores a name that is a parameter of the URL or in PGAPPNAME.
    url = f"{database.url}?options=-capplication_name%3D{name}"
    environment = {"ENVIRONMENT": "production", "AUTH_MODE": "trusted", "DATABASE_URL": url}
    return await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "manage.py", "migrate_sql",
        env=clean_environment() | environment, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


# A revision that has to wait for the table, and that the running server works with.
REVISION = """
def upgrade() -> None:
    op.execute("ALTER TABLE tasks ADD COLUMN colour text")


def downgrade() -> None:
    op.execute("ALTER TABLE tasks DROP COLUMN colour")
"""
LOCKS = cycle(("ACCESS SHARE", "ROW EXCLUSIVE"))
"""The locks of a long report, and of a transaction that writes and does not commit."""


@scenario(
    "a migration behind a long lock",
    goal=f"traffic is delayed by at most lock_timeout ({migrator.LOCK_TIMEOUT}) and no request fails; "
    "the migration changes nothing, and succeeds when it is run again",
)
async def behind_a_long_lock(run: Run, result: Result) -> None:
    project, longest = Project(run.folder / "project"), 0.0
    revision = project.add(REVISION)
    async with environment(run, result) as env, env.load(pause=0.02, may_be_unavailable=False) as found:
        for _ in range(run.rounds(10, 1)):
            await _fail_and_try_again(env, found, project, revision)
            longest = max(longest, *(sample.seconds for sample in found.samples))
            found.samples.clear()
    result.figures["longest delay"] = f"{longest:.2f} s"
    limit = float(migrator.LOCK_TIMEOUT.removesuffix("s"))
    result.expect(longest > limit / 2, "the migration delayed no request, so nothing was tested")
    # The time that a request takes anyway on a busy machine is added.
    result.goal(longest < limit + 0.5, f"a request took {longest:.2f} s")


async def _fail_and_try_again(env: Environment, found: Load, project: Project, revision: str) -> None:
    result, dsn, url = env.result, env.postgres.dsn, env.postgres.url
    result.rounds += 1
    before = await asyncio.to_thread(schema_of, dsn)
    async with env.administrator() as other, other.transaction():
        await other.execute(f"LOCK TABLE tasks IN {next(LOCKS)} MODE")
        failed = await project.migrate(url)
        # The lock is still held, but requests no longer wait behind the migration.
        result.recoveries.append(await found.next_success(writes_only=True))
    result.expect(failed.returncode == 1, f"behind a lock it ended with {failed.returncode}")
    for words in (f"Revision {revision} (Try it) failed", "lock timeout", "run it again", "ALTER TABLE"):
        result.expect(words in failed.stderr, f"it does not say {words!r}: {failed.stderr}")
    result.expect(await asyncio.to_thread(schema_of, dsn) == before, "the failed revision has changed the schema")
    again = await project.migrate(url)
    result.expect(f"up to {revision}" in again.stdout, f"run again, it ended with {again}")
    down = await project.migrate(url, "--down", "1")
    result.expect(f"down from {revision}" in down.stdout, f"run backwards, it ended with {down}")


# What a restore in place does to the types, in one transaction that keeps the tasks.
MAKE_TYPES_ANEW = """
ALTER TABLE tasks DROP CONSTRAINT ck_tasks_completed_at_says_when,
                  ALTER status DROP DEFAULT, ALTER priority DROP DEFAULT;
DROP INDEX ix_tasks_status, ix_tasks_priority;
ALTER TYPE task_status RENAME TO old_status;
ALTER TYPE task_priority RENAME TO old_priority;
CREATE TYPE task_status AS ENUM ('pending', 'completed');
CREATE TYPE task_priority AS ENUM ('low', 'medium', 'high');
ALTER TABLE tasks ALTER status TYPE task_status USING status::text::task_status,
                  ALTER priority TYPE task_priority USING priority::text::task_priority;
ALTER TABLE tasks ALTER status SET DEFAULT 'pending', ALTER priority SET DEFAULT 'medium',
                  ADD CONSTRAINT ck_tasks_completed_at_says_when
                      CHECK ((status = 'completed') = (completed_at IS NOT NULL));
CREATE INDEX ix_tasks_status ON tasks (user_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX ix_tasks_priority ON tasks (user_id, priority, created_at DESC, id DESC) WHERE deleted_at IS NULL;
DROP TYPE old_status, old_priority;
"""


@scenario(
    "types dropped and made again under the running server",
    goal="statements that were prepared with the old ones are run again on new connections; no request fails",
)
async def types_made_anew(run: Run, result: Result) -> None:
    async with environment(run, result) as env, env.administrator() as admin:
        async with env.load(may_be_unavailable=False) as found:
            for _ in range(run.rounds(20, 3)):
                # Long enough for every connection to prepare its statements, and to be old enough to be distrusted.
                await asyncio.sleep(2 * RENEWED_AFTER)
                async with admin.transaction():
                    await admin.execute(MAKE_TYPES_ANEW)
                result.rounds += 1
                result.recoveries.append(await found.next_success(writes_only=True))
        result.figures["requests"] = f"{len(found.samples):,}"


class Broken(NamedTuple):
    """The body of a revision that fails, and the words of the message beside the revision."""

    body: str
    words: Sequence[str]


def _body(*statements: str) -> str:
    lines = "".join(f"    op.execute({statement!r})\n" for statement in statements)
    return f"def upgrade() -> None:\n{lines}\n\ndef downgrade() -> None:\n    pass\n"


STATEMENTS = [f"CREATE TABLE half_{number} (id int PRIMARY KEY)" for number in range(6)]
WRONG = {
    "CREATE TABEL half ()": 'syntax error at or near "TABEL"',
    "ALTER TABLE users ADD CHECK (email = 'nobody')": "is violated by some row",
    "ALTER TABLE nowhere ADD x text": 'relation "nowhere" does not exist',
}
DEFERRED = "CREATE TABLE late (id int REFERENCES half_0 DEFERRABLE INITIALLY DEFERRED)"
OTHERS = (
    Broken("def upgrade() -> None:\n    op.execute('open\n", ["cannot be read", "unterminated string", "line 10"]),
    Broken(_body(*STATEMENTS, DEFERRED, "INSERT INTO late VALUES (1)"), ["violates foreign key constraint"]),
    Broken(_body(*STATEMENTS).replace("op.execute", "op.exekute", 1), ["exekute"]),
)


@scenario(
    "a revision that fails half-way, a syntax error in a revision",
    goal="nothing of the revision remains; the message names the revision and the statement",
)
async def broken_revision(run: Run, result: Result) -> None:
    # Each wrong statement at each place.
    cases = [
        Broken(_body(*STATEMENTS[:place], statement, *STATEMENTS[place:]), [words, f"in: {statement}"])
        for place in range(len(STATEMENTS) + 1)
        for statement, words in WRONG.items()
    ]
    cases = [*OTHERS[:2], *cases[len(cases) // 2 :][:2]] if run.quick else [*OTHERS, *cases]
    project = Project(run.folder / "project")
    with PostgresServer(run.folder / "pg") as postgres:
        before = project.add(_body("CREATE TABLE older ()"))
        await project.migrate(postgres.url)
        with psycopg.connect(postgres.dsn.conninfo) as connection:
            connection.execute("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'somebody@example.com')")
        schema = schema_of(postgres.dsn)
        revision = project.add("")
        project.add(_body("CREATE TABLE newer ()"))
        for broken in cases:
            result.rounds += 1
            project.write(revision, broken.body)
            ended = await project.migrate(postgres.url)
            result.expect(
                ended.returncode == 1 and len(ended.stderr.splitlines()) == 1, f"it is not one message: {ended}"
            )
            for words in (revision, *broken.words):
                result.expect(words in ended.stderr, f"it does not say {words!r}: {ended.stderr}")
            found = await asyncio.to_thread(schema_of, postgres.dsn)
            result.expect(found == schema, f"the schema has changed: {broken}")
            current = await asyncio.to_thread(migrator.current, postgres.dsn)
            result.expect(current == before, f"the database is at {current} after {broken}")
        project.write(revision, _body(*STATEMENTS))
        corrected = await project.migrate(postgres.url)
        result.expect(corrected.stdout.count("up to") == 2, f"corrected, it ended with {corrected}")
