"""Migrations beside others: one process migrates a database at a time, and no table is blocked for long."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from persistence import history, migrator
from persistence.history import MigrationError
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.database.helpers import Admin
from tests.database.test_migrations import BEFORE, REVISIONS, schema_of
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, eventually, url_of

# One process that has imported everything and forks, because importing takes longer than migrating.
MIGRATE_IN_MANY_PROCESSES = """
import os, sys
from persistence import history, migrator
from persistence.postgres.dsn import Dsn
dsn = Dsn.parse(sys.argv[1])
children = []
for _ in range(6):
    if not (child := os.fork()):
        runs = migrator.migrate(dsn)
        os.write(1, f"{len(runs)}\\n".encode())
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children) and 1)
"""
HOLD_THE_LOCK = """
import sys
from persistence import history, migrator
from persistence.postgres.dsn import Dsn
with migrator.locked_connection(Dsn.parse(sys.argv[1])) as connection:
    connection.exec_driver_sql("SELECT pg_sleep(3600)")
"""


def test_one_of_many_processes_migrates_and_the_others_find_nothing_to_do(empty_dsn: Dsn) -> None:
    process = subprocess.run(
        [sys.executable, "-c", MIGRATE_IN_MANY_PROCESSES, url_of(empty_dsn)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert sorted(map(int, process.stdout.split())) == [0] * 5 + [len(REVISIONS)]
    assert migrator.current(empty_dsn) == history.head()


def test_the_lock_of_a_process_that_was_killed_in_a_long_statement_passes_on(empty_dsn: Dsn, admin: Admin) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, url_of(empty_dsn)], cwd=ROOT, env=clean_environment()
    ) as process:
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        eventually(lambda: bool(admin.execute(sleeping)), 60)
        process.kill()
        # Unless the server checks its client, the lock is held until the end of the statement.
        assert len(migrator.migrate(empty_dsn)) == len(REVISIONS)


def test_a_process_that_waits_too_long_for_another_gives_up_and_names_no_revision(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrator, "MIGRATION_LOCK_TIMEOUT", 0.2)
    waited = "^Nothing was done: another process has been migrating for more than 0.2 s$"
    with migrator.locked_connection(empty_dsn), pytest.raises(MigrationError, match=waited):
        migrator.migrate(empty_dsn)
    assert migrator.current(empty_dsn) is None


def test_a_process_that_loses_its_connection_while_it_waits_does_not_blame_another(
    empty_dsn: Dsn, admin: Admin
) -> None:
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)"
        " AND query ~ 'advisory_lock|COMMIT|ROLLBACK'"
    )
    with ThreadPoolExecutor() as threads, migrator.locked_connection(empty_dsn) as connection:
        holder = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        waiting = threads.submit(migrator.migrate, empty_dsn)
        eventually(lambda: bool(admin.execute(terminate, holder)), 60)
        with pytest.raises(MigrationError, match=r"^Nothing was done: ") as failure:
            waiting.result()
    assert "another process" not in str(failure.value)


def test_a_revision_gives_up_soon_on_a_table_in_use_whatever_the_revision_before_it_has_set(
    empty_dsn: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrator.migrate(empty_dsn, "0004")
    monkeypatch.setattr(migrator, "LOCK_TIMEOUT", "100ms")
    with psycopg.connect(empty_dsn.conninfo) as busy:
        # The end of the lock makes this test fail instead of hang.
        busy.execute("SET idle_in_transaction_session_timeout = '60s'")
        busy.execute("LOCK TABLE tasks IN ACCESS SHARE MODE")
        # Revision 0005 passes such a lock, and waits for others without a limit.
        with pytest.raises(MigrationError, match=r"^Revision 0006 .* more than 100ms: run it again when .* less busy"):
            migrator.migrate(empty_dsn)
        assert migrator.current(empty_dsn) == "0005"
    assert [run.revision for run in migrator.migrate(empty_dsn)] == REVISIONS[5:]


def test_revision_0005_waits_for_a_long_transaction_and_blocks_no_write_meanwhile(
    empty_dsn: Dsn, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrator.migrate(empty_dsn, "0004")
    monkeypatch.setattr(migrator, "LOCK_TIMEOUT", "100ms")
    user = admin.value("INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'alice@example.com') RETURNING id")
    insert = "INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), %s, 'x')"
    building = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE UNIQUE%'"
        " AND now() - query_start > '300 ms'"
    )
    admin.execute("SET lock_timeout = '60s'")
    with ThreadPoolExecutor() as threads, psycopg.connect(empty_dsn.conninfo) as long:
        long.execute(insert.encode(), [user])
        migrating = threads.submit(migrator.migrate, empty_dsn, "0005")
        # The revision has waited for longer than others may.
        eventually(lambda: bool(admin.execute(building)), 60)
        admin.execute(insert, user)
        assert not migrating.done()
        long.commit()
        assert [run.revision for run in migrating.result()] == ["0005"]
    assert admin.value("SELECT count(*) FROM tasks") == 2
    assert admin.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'uq_tasks_user_id_id'::regclass")


def test_a_request_that_waits_behind_a_revision_is_not_at_its_deadline_when_the_revision_gives_up() -> None:
    assert float(migrator.LOCK_TIMEOUT.removesuffix("s")) <= DatabaseOptions().statement_timeout - 2


def test_a_url_behind_a_pooler_is_refused_before_anything_is_done(migrated_dsn: Dsn) -> None:
    before = schema_of(migrated_dsn)
    with pytest.raises(MigrationError) as refusal:
        migrator.migrate(replace(migrated_dsn, behind_pooler=True), BEFORE[REVISIONS[-1]])
    assert str(refusal.value) == "DATABASE_URL leads to a pooler; set DATABASE_URL_DIRECT to a URL that goes around it"
    assert schema_of(migrated_dsn) == before


def test_it_goes_around_neons_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(conninfo: str, **_: object) -> None:
        raise psycopg.OperationalError(conninfo)

    monkeypatch.setattr(psycopg, "connect", refuse)
    pooled = Dsn.parse("postgresql://alice:pw@ep-cool-name-123-pooler.eu-central-1.aws.neon.tech/todo")
    with pytest.raises(psycopg.OperationalError, match=r"host=ep-cool-name-123\.eu-central-1\.aws\.neon\.tech"):
        migrator.migrate(pooled)
