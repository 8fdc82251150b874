"""Migrations: whole or not at all, one process at a time, there and back without losing data (D11, D30)."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.config import Config

from persistence import migrator
from persistence.migrator import MigrationError, Step
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.database.test_schema import Schema, describe
from tests.faults import pgbouncer
from tests.faults.pgbouncer import PgBouncer
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, PostgresServer, eventually

REVISIONS = list(migrator.revisions())
FILES = sorted((ROOT / "migrations" / "versions").glob("*.py"))
NEXT, AFTER_NEXT = (f"{len(FILES) + number:04}" for number in (1, 2))


def schema_of(dsn: Dsn) -> Schema:
    with psycopg.connect(dsn.conninfo) as connection:
        return describe(connection)


def insert_data(dsn: Dsn) -> None:
    """One user with one task, in every column that the first step made."""
    user, now = uuid4(), datetime.now(UTC)
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute(
            "INSERT INTO users VALUES (%s, 'alice@example.com', 'hash', 'Alice', false, true, %s, %s)", [user, now, now]
        )
        connection.execute(
            "INSERT INTO tasks VALUES (%s, %s, 'Buy milk', 'Two', 'completed', 'high', %s, '{a,b}', %s, %s, %s)",
            [uuid4(), user, now, now, now, now],
        )


def data_of(dsn: Dsn) -> list[Any]:
    with psycopg.connect(dsn.conninfo) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY id".encode()).fetchall() for table in ("users", "tasks")
        ]


class Copy:
    """A copy of the project's migrations, which a test may add steps to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.versions = root / "migrations" / "versions"
        shutil.copytree(ROOT / "migrations", root / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)

    def add(self, upgrade: str, downgrade: str = "pass") -> str:
        """Writes a step after the newest, of one line of Python each way, and returns its revision."""
        number = len(list(self.versions.glob("*.py")))
        revision = f"{number + 1:04}"
        (self.versions / f"{revision}_try_it.py").write_text(
            f'"""Try it."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = "{number:04}"\n\n\n'
            f"def upgrade() -> None:\n    {upgrade}\n\n\ndef downgrade() -> None:\n    {downgrade}\n"
        )
        return revision


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    copy = Copy(tmp_path)
    monkeypatch.setattr(migrator, "_config", lambda: Config(toml_file=tmp_path / "pyproject.toml"))
    _forget()
    yield copy
    _forget()


def _forget() -> None:
    migrator.head.cache_clear()
    migrator.revisions.cache_clear()


def test_it_goes_up_from_nothing_step_by_step_and_has_nothing_to_do_the_second_time(empty_dsn: Dsn) -> None:
    reported: list[Step] = []
    assert migrator.current(empty_dsn) is None

    started = monotonic()
    steps = migrator.migrate(empty_dsn, report=reported.append)
    # S3-SC-002 allows the initial migration ten seconds.
    assert monotonic() - started < 10

    assert steps == reported
    assert [(step.revision, step.direction) for step in steps] == [(revision, "up") for revision in REVISIONS]
    assert [step.description for step in steps] == list(migrator.revisions().values())
    assert all(step.duration >= 0 for step in steps)
    assert migrator.current(empty_dsn) == migrator.head() == REVISIONS[-1]
    assert migrator.migrate(empty_dsn) == []


def test_it_goes_up_to_a_revision_and_no_further(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, "0001")

    assert migrator.current(empty_dsn) == "0001"
    assert [step.revision for step in migrator.migrate(empty_dsn)] == REVISIONS[1:]


def test_every_step_down_ends_where_the_step_up_began_and_the_last_leaves_nothing(empty_dsn: Dsn) -> None:
    before: dict[str, Schema] = {}
    for revision in REVISIONS:
        before[revision] = schema_of(empty_dsn)
        migrator.migrate(empty_dsn, revision)
        assert schema_of(empty_dsn) != before[revision]

    for revision in reversed(REVISIONS):
        (step,) = migrator.migrate(empty_dsn, "-1")
        assert (step.revision, step.direction) == (revision, "down")
        assert schema_of(empty_dsn) == before[revision]

    assert schema_of(empty_dsn) == {}
    assert migrator.current(empty_dsn) is None


def test_the_newest_step_goes_down_and_up_again_without_losing_anything_older(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, REVISIONS[-2])
    insert_data(empty_dsn)
    older = data_of(empty_dsn)
    columns = [len(rows[0]) for rows in older]
    migrator.migrate(empty_dsn)
    newest = schema_of(empty_dsn)

    migrator.migrate(empty_dsn, "-1")
    assert data_of(empty_dsn) == older
    migrator.migrate(empty_dsn)

    assert schema_of(empty_dsn) == newest
    # What the newest step adds stands after the older columns.
    assert [[row[:count] for row in rows] for count, rows in zip(columns, data_of(empty_dsn), strict=True)] == older


def test_every_step_but_the_first_goes_up_and_down_on_a_database_with_data(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn, "0001")
    insert_data(empty_dsn)
    before = data_of(empty_dsn)

    migrator.migrate(empty_dsn)
    migrator.migrate(empty_dsn, "0001")

    assert data_of(empty_dsn) == before


def test_the_sql_it_prints_makes_the_same_schema(empty_dsn: Dsn, dsn: Dsn) -> None:
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as connection:
        connection.execute(migrator.sql("up", "head").encode())

    assert schema_of(empty_dsn) == schema_of(dsn)
    assert migrator.current(empty_dsn) == migrator.head()
    assert migrator.migrate(empty_dsn) == []


def test_the_sql_it_prints_leads_back_too(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn)
    with psycopg.connect(empty_dsn.conninfo, autocommit=True) as connection:
        connection.execute(migrator.sql("down", "head:base").encode())

    assert schema_of(empty_dsn) == {}


def test_the_sql_it_prints_is_one_transaction_for_each_step() -> None:
    printed = migrator.sql("up", "head")

    assert printed.count("BEGIN;") == printed.count("COMMIT;") == len(REVISIONS)


# One process that has imported everything and forks, because importing takes longer than migrating.
MIGRATE_IN_MANY_PROCESSES = """
import os, sys
from persistence import migrator
from persistence.postgres.dsn import Dsn
dsn = Dsn.parse(sys.argv[1])
children = []
for _ in range(6):
    if not (child := os.fork()):
        steps = migrator.migrate(dsn)
        os.write(1, f"{len(steps)}\\n".encode())
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children) and 1)
"""


def test_of_many_processes_that_migrate_at_once_one_does_it_and_the_others_find_nothing_to_do(empty_dsn: Dsn) -> None:
    process = subprocess.run(
        [sys.executable, "-c", MIGRATE_IN_MANY_PROCESSES, url_of(empty_dsn)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert process.returncode == 0, process.stderr
    assert sorted(map(int, process.stdout.split())) == [0] * 5 + [len(REVISIONS)]
    assert migrator.current(empty_dsn) == migrator.head()


def url_of(dsn: Dsn) -> str:
    """What `DATABASE_URL` would say."""
    query = "&".join(f"{name}={value}" for name, value in dsn.parameters.items() if name != "dbname")
    return f"postgresql:///{dsn.database}?{query}"


def test_a_step_that_fails_half_way_leaves_nothing_and_the_message_tells_what_and_where(
    empty_dsn: Dsn, steps: Copy
) -> None:
    steps.add("op.execute('CREATE TABLE notes ()')")
    broken = steps.add("op.execute('CREATE TABLE halves ()'); op.execute('ALTER TABLE nowhere   ADD x text')")
    steps.add("op.execute('CREATE TABLE never ()')")
    reported: list[Step] = []

    with pytest.raises(MigrationError) as failure:
        migrator.migrate(empty_dsn, report=reported.append)

    message = str(failure.value)
    assert f"Step {broken} (Try it) failed" in message
    assert 'relation "nowhere" does not exist' in message
    assert "ALTER TABLE nowhere ADD x text" in message
    assert "\n" not in message
    # Each step is a transaction of its own, so those before it stay.
    assert [step.revision for step in reported] == [*REVISIONS, NEXT]
    assert migrator.current(empty_dsn) == NEXT
    schema = schema_of(empty_dsn)
    assert "relation notes" in schema
    assert "relation halves" not in schema
    assert "relation never" not in schema


def test_a_step_down_that_fails_leaves_everything_and_names_itself(empty_dsn: Dsn, steps: Copy) -> None:
    way_back = "op.execute('DROP TABLE notes'); op.execute('DROP nothing')"
    broken = steps.add("op.execute('CREATE TABLE notes ()')", way_back)
    migrator.migrate(empty_dsn)
    before = schema_of(empty_dsn)

    with pytest.raises(MigrationError, match=f"Step {broken} .*syntax error"):
        migrator.migrate(empty_dsn, "base")

    assert schema_of(empty_dsn) == before
    assert migrator.current(empty_dsn) == broken


def test_invalid_sql_in_a_step_is_told_with_what_postgresql_said(empty_dsn: Dsn, steps: Copy) -> None:
    broken = steps.add("op.execute('CREATE TABEL notes ()')")

    with pytest.raises(MigrationError, match=f'Step {broken} .*syntax error at or near "TABEL".*CREATE TABEL notes'):
        migrator.migrate(empty_dsn)

    assert migrator.current(empty_dsn) == REVISIONS[-1]


def test_a_step_that_is_no_python_is_named_with_its_line(empty_dsn: Dsn, steps: Copy) -> None:
    revision = steps.add("op.execute('unfinished")

    with pytest.raises(MigrationError, match=rf"{revision}_try_it\.py.*unterminated string.*line 10"):
        migrator.migrate(empty_dsn)

    assert schema_of(empty_dsn) == {}


@pytest.mark.parametrize(
    ("upgrade", "reason"),
    [
        ('raise NotImplementedError("write the step")', "write the step"),
        ("op.drop_everything()", "drop_everything"),
        ("no_such_name", "no_such_name"),
        ("op.get_bind().scalar(1)", ""),
    ],
)
def test_a_mistake_in_a_steps_python_is_one_message_that_names_the_step(
    empty_dsn: Dsn, steps: Copy, upgrade: str, reason: str
) -> None:
    revision = steps.add(upgrade)

    with pytest.raises(MigrationError, match=f"Step {revision} .*{reason}"):
        migrator.migrate(empty_dsn)

    assert migrator.current(empty_dsn) == REVISIONS[-1]


def test_two_steps_after_the_same_one_are_told_clearly(empty_dsn: Dsn, steps: Copy) -> None:
    # Two authors wrote a step at the same time, and both were merged.
    steps.add("pass")
    second = (steps.versions / f"{NEXT}_try_it.py").read_text()
    second = second.replace(f'revision = "{NEXT}"', f'revision = "{AFTER_NEXT}"', 1)
    (steps.versions / f"{AFTER_NEXT}_try_too.py").write_text(second)

    with pytest.raises(MigrationError, match=f"{NEXT}|{AFTER_NEXT}|head"):
        migrator.migrate(empty_dsn)


def test_it_gives_up_soon_on_a_table_that_is_in_use(empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrator, "LOCK_TIMEOUT", "100ms")
    migrator.migrate(empty_dsn)
    before = schema_of(empty_dsn)
    with psycopg.connect(empty_dsn.conninfo) as busy:
        busy.execute("LOCK TABLE tasks IN ACCESS SHARE MODE")
        started = monotonic()
        with pytest.raises(MigrationError, match=rf"Step {REVISIONS[-1]} .*more than 100ms: run it again"):
            migrator.migrate(empty_dsn, "-1")
        assert monotonic() - started < 5

    assert schema_of(empty_dsn) == before
    assert len(migrator.migrate(empty_dsn, "-1")) == 1


def test_it_tells_when_another_process_does_not_finish_migrating(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrator.migrate(empty_dsn)
    monkeypatch.setattr(migrator, "TURN_TIMEOUT", "100ms")
    with migrator.locked_connection(empty_dsn), pytest.raises(MigrationError) as failure:
        migrator.migrate(empty_dsn)

    # No step was begun, so none may be blamed, and it is the wait for the turn that was too long.
    assert "Step" not in str(failure.value)
    assert "100ms" in str(failure.value)


def test_a_lost_turn_is_given_back(empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrator, "TURN_TIMEOUT", "2s")
    with migrator.locked_connection(empty_dsn) as connection:
        connection.invalidate()

    assert len(migrator.migrate(empty_dsn)) == len(REVISIONS)


def test_a_step_that_fails_only_when_it_is_committed_is_not_reported_as_done(empty_dsn: Dsn, steps: Copy) -> None:
    steps.add("op.execute('CREATE TABLE notes (id int PRIMARY KEY)')")
    # Such a constraint is checked at the commit.
    reference = "int REFERENCES notes DEFERRABLE INITIALLY DEFERRED"
    broken = steps.add(
        f"op.execute('CREATE TABLE pages (note {reference})'); op.execute('INSERT INTO pages VALUES (1)')"
    )
    reported: list[Step] = []

    with pytest.raises(
        MigrationError, match=f"Step {broken} .* left nothing behind: .*violates foreign key constraint"
    ):
        migrator.migrate(empty_dsn, report=reported.append)

    assert [step.revision for step in reported] == [*REVISIONS, NEXT]
    assert migrator.current(empty_dsn) == NEXT
    assert "relation pages" not in schema_of(empty_dsn)


COMMIT_WITHOUT_AN_ANSWER = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TABLE notes ();
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();
INSERT INTO notes DEFAULT VALUES;
"""


def test_a_connection_that_is_lost_while_a_step_is_committed_leaves_open_whether_it_was(
    empty_dsn: Dsn, steps: Copy
) -> None:
    lost = steps.add(f"op.execute({COMMIT_WITHOUT_AN_ANSWER!r})")

    with pytest.raises(MigrationError, match=f"Step {lost} .* is done or not, as the connection was lost") as failure:
        migrator.migrate(empty_dsn)

    assert "nothing" not in str(failure.value)


def test_a_connection_that_is_lost_in_the_middle_of_a_step_leaves_nothing_of_it(empty_dsn: Dsn, steps: Copy) -> None:
    die = "op.execute('SELECT pg_terminate_backend(pg_backend_pid())')"
    broken = steps.add(f"op.execute('CREATE TABLE notes ()'); {die}")

    with pytest.raises(MigrationError, match=f"Step {broken} .* left nothing behind: .*terminat"):
        migrator.migrate(empty_dsn)

    assert migrator.current(empty_dsn) == REVISIONS[-1]
    assert "relation notes" not in schema_of(empty_dsn)


def test_a_step_that_fails_after_a_part_outside_of_its_transaction_does_not_claim_to_have_left_nothing(
    empty_dsn: Dsn, steps: Copy
) -> None:
    outside = "with op.get_context().autocommit_block(): op.execute('CREATE TABLE notes ()')"
    steps.add(outside)
    broken = steps.add(f"{outside.replace('notes', 'pages')}\n    op.execute('DROP nothing')")

    with pytest.raises(MigrationError, match=f"Step {broken} .* outside of its transaction remains: syntax error"):
        migrator.migrate(empty_dsn)

    assert migrator.current(empty_dsn) == NEXT
    assert {"relation notes", "relation pages"} <= schema_of(empty_dsn).keys()


def test_whoever_waits_for_his_turn_when_the_server_goes_does_not_blame_another_process(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []

    def wait() -> None:
        with pytest.raises(MigrationError) as failure:
            migrator.migrate(empty_dsn)
        messages.append(str(failure.value))

    with migrator.locked_connection(empty_dsn), psycopg.connect(empty_dsn.conninfo, autocommit=True) as admin:
        waiter = Thread(target=wait)
        waiter.start()
        waiting = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: bool(admin.execute(waiting).fetchall()))
        waiter.join()

    assert messages
    assert "Nothing was done: terminating connection" in messages[0]


# It says when it runs the statement, in which it then stays for longer than any test.
MIGRATE_FOR_LONG = """
import sys
from persistence import migrator
from persistence.postgres.dsn import Dsn
with migrator.locked_connection(Dsn.parse(sys.argv[1])) as connection:
    print("mine", flush=True)
    connection.exec_driver_sql("SELECT pg_sleep(600)")
"""


def test_the_turn_of_a_process_that_was_killed_in_a_long_statement_passes_on(empty_dsn: Dsn) -> None:
    command = [sys.executable, "-c", MIGRATE_FOR_LONG, url_of(empty_dsn)]
    with (
        psycopg.connect(empty_dsn.conninfo, autocommit=True) as admin,
        subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE) as process,
    ):
        sleeping = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        eventually(lambda: bool(admin.execute(sleeping).fetchall()))
        process.kill()

        # Without the server's own look at its client this would be ten minutes later.
        assert len(migrator.migrate(empty_dsn)) == len(REVISIONS)


def test_a_server_that_cannot_watch_its_clients_is_migrated_all_the_same(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On such a server every value but zero is refused.
    monkeypatch.setattr(migrator, "NOTICE_DEATH_WITHIN", "refused")

    assert len(migrator.migrate(empty_dsn)) == len(REVISIONS)


def test_a_session_that_somebody_else_has_marked_since_is_not_trusted_to_be_in_its_turn(empty_dsn: Dsn) -> None:
    # As it happens behind a pooler that lends one session to several clients in turn.
    with migrator.locked_connection(empty_dsn) as connection:
        connection.exec_driver_sql(f"SET {migrator.TURN_MARK} = 'another'")
        connection.commit()
        with pytest.raises(MigrationError, match="leads to a pooler that changes sessions"):
            connection.exec_driver_sql("CREATE TABLE notes ()")

    assert schema_of(empty_dsn) == {}


@pytest.fixture
def pooled(postgres: PostgresServer, tmp_path: Path) -> Iterator[Dsn]:
    """The same database through PgBouncer, which cannot be told from its address."""
    if not pgbouncer.available():
        pytest.skip("PgBouncer is not installed")
    with PgBouncer(tmp_path / "pgbouncer", postgres.port) as bouncer:
        yield Dsn.parse(bouncer.url)


def test_a_pooler_keeps_nothing_of_a_migration_that_went_through_it(postgres: PostgresServer, pooled: Dsn) -> None:
    migrator.migrate(postgres.dsn, "base")

    assert len(migrator.migrate(pooled)) == len(REVISIONS)

    settings = "SELECT current_setting('lock_timeout'), current_setting('client_connection_check_interval')"
    with psycopg.connect(pooled.conninfo) as client:
        assert client.execute(settings).fetchall() == [("0", "0")]
        assert client.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").fetchall() == []


def test_a_turn_that_a_pooler_has_lost_is_told_and_holds_nobody_up(
    postgres: PostgresServer, pooled: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrator, "TURN_TIMEOUT", "5s")
    other = psycopg.connect(pooled.conninfo)
    with migrator.locked_connection(pooled) as connection:
        # The pooler lends him the session that has the lock, as it is the one that was used last.
        other.execute("SELECT 1")
        with pytest.raises(MigrationError, match="migrate with a URL that goes around it"):
            connection.exec_driver_sql("CREATE TABLE notes ()")
    other.close()

    assert migrator.migrate(postgres.dsn) == []
    assert "relation notes" not in schema_of(postgres.dsn)


def test_a_request_that_waits_behind_a_step_is_not_at_its_deadline_when_the_step_gives_up() -> None:
    assert float(migrator.LOCK_TIMEOUT.removesuffix("s")) <= DatabaseOptions().statement_timeout - 2


def test_a_database_that_cannot_be_reached_is_not_the_fault_of_a_step(dsn: Dsn) -> None:
    unreachable = (MigrationError, psycopg.OperationalError)

    with pytest.raises(unreachable, match='database "nowhere" does not exist') as failure:
        migrator.migrate(dsn.with_database("nowhere"))

    assert "Step" not in str(failure.value)


def test_asking_a_database_that_cannot_be_reached_fails_as_promised(dsn: Dsn) -> None:
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        migrator.current(dsn.with_database("nowhere"))


@pytest.mark.parametrize(
    ("move", "revision"), [(migrator.migrate, "0999"), (migrator.migrate, "0999"), (migrator.migrate, "-99")]
)
def test_a_revision_that_is_none_is_refused(dsn: Dsn, move: Any, revision: str) -> None:
    with pytest.raises(MigrationError) as failure:
        move(dsn, revision)

    assert "\n" not in str(failure.value)
    assert migrator.current(dsn) == migrator.head()


def test_a_database_ahead_of_the_code_is_left_alone(empty_dsn: Dsn) -> None:
    migrator.migrate(empty_dsn)
    before = schema_of(empty_dsn)
    with psycopg.connect(empty_dsn.conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")

    assert migrator.state(migrator.current(empty_dsn)) == "unknown"
    with pytest.raises(MigrationError, match="0999"):
        migrator.migrate(empty_dsn)
    assert schema_of(empty_dsn) == before


def test_a_database_is_behind_up_to_date_or_unknown() -> None:
    assert migrator.state(None) == "behind"
    assert migrator.state("0001") == "behind"
    assert migrator.state(migrator.head()) == "up-to-date"
    assert migrator.state("0999") == "unknown"


async def test_it_can_be_asked_through_the_pool(database: Database, empty_dsn: Dsn) -> None:
    assert await migrator.applied_revision(database, 5) == migrator.head()

    async with open_database(empty_dsn) as other:
        assert await migrator.applied_revision(other, 5) is None
        migrator.migrate(empty_dsn)
        migrator.migrate(empty_dsn, "base")
        assert await migrator.applied_revision(other, 5) is None


def test_it_goes_around_neons_pooler(dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    connect = psycopg.connect

    def record(conninfo: str, **options: Any) -> psycopg.Connection:
        seen.append(conninfo)
        return connect(dsn.conninfo, **options)

    monkeypatch.setattr(psycopg, "connect", record)
    pooled = Dsn.parse("postgresql://alice:pw@ep-cool-name-123-pooler.eu-central-1.aws.neon.tech/todo?sslmode=require")

    assert migrator.migrate(pooled) == []
    assert seen
    assert all("host=ep-cool-name-123.eu-central-1.aws.neon.tech" in conninfo for conninfo in seen)


def test_a_new_step_is_a_numbered_file_that_says_what_to_think_of(steps: Copy) -> None:
    path = migrator.new("Add tasks.colour.")

    assert path == steps.versions / f"{NEXT}_add_tasks_colour.py"
    written = path.read_text()
    assert written.startswith('"""Add tasks.colour.\n')
    assert re.search(f"^revision = .{NEXT}.$", written, re.MULTILINE)
    assert re.search(f"^down_revision = .{REVISIONS[-1]}.$", written, re.MULTILINE)
    assert "lock_timeout" in written
    assert "CONCURRENTLY" in written
    _forget()
    assert migrator.head() == NEXT
    assert migrator.revisions()[NEXT] == "Add tasks.colour"


def test_a_new_step_that_nobody_wrote_does_not_pass_for_one(steps: Copy, empty_dsn: Dsn) -> None:
    migrator.new("Add tasks.colour")
    _forget()

    with pytest.raises(MigrationError, match=f"Step {NEXT} .*write the step"):
        migrator.migrate(empty_dsn)


@pytest.mark.parametrize("description", ["", "  ", "!?"])
def test_a_new_step_needs_a_description(steps: Copy, description: str) -> None:
    with pytest.raises(MigrationError, match="needs a description"):
        migrator.new(description)

    assert len(list(steps.versions.glob("*.py"))) == len(FILES)


@pytest.mark.parametrize("description", ['Say """hello"""', 'Say "hello"', "Move C:\\users\\N", "Add ${this}", "Zähle"])
def test_a_new_step_with_an_odd_description_can_be_read_or_is_refused(steps: Copy, description: str) -> None:
    with contextlib.suppress(MigrationError):
        migrator.new(description)
    _forget()

    assert migrator.head() in {REVISIONS[-1], NEXT}


def test_the_steps_are_numbered_without_a_gap_and_each_says_what_it_does() -> None:
    assert len(FILES) >= 2
    assert [f"{number:04}" for number in range(1, len(FILES) + 1)] == REVISIONS
    for file, (revision, description) in zip(FILES, migrator.revisions().items(), strict=True):
        assert file.name.startswith(f"{revision}_")
        assert re.sub(r"\W+", "_", description.lower()).startswith(file.stem.removeprefix(f"{revision}_")[:40])
        assert file.read_text().startswith('"""')


def alembic(*arguments: str, root: Path, url: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {
        "DATABASE_URL": url,
        "ENVIRONMENT": "development",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [Path(sys.executable).parent / "alembic", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_autogenerate_is_refused_with_what_to_do_instead(dsn: Dsn, tmp_path: Path) -> None:
    copy = Copy(tmp_path)

    refused = alembic("revision", "--autogenerate", "-m", "try it", root=tmp_path, url=url_of(dsn))

    assert refused.returncode != 0
    assert 'manage.py migrate_sql --new "describe it"' in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(copy.versions.glob("*.py")) == [copy.versions / file.name for file in FILES]


def test_alembics_own_command_finds_the_database_in_the_settings(empty_dsn: Dsn, tmp_path: Path) -> None:
    Copy(tmp_path)

    done = alembic("upgrade", "head", root=tmp_path, url=url_of(empty_dsn))

    assert done.returncode == 0, done.stderr
    assert migrator.current(empty_dsn) == migrator.head()
