"""The command `manage.py distribute`: what it makes of a database, again and again, and after a failure."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest

from persistence import distribution, grants, migrator, readiness
from persistence.distribution import DistributionError
from persistence.distribution_steps import STEPS, Step
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from tests.database.helpers import LONG
from tests.support import citus
from tests.support.databases import execute
from tests.support.servers import command, url_of

NAMES = [step.description for step in STEPS]
INDEXING = next(number for number, name in enumerate(NAMES) if name.startswith("Index"))
SPREADING = next(number for number, name in enumerate(NAMES) if "tasks by owner" in name)


def rows(dsn: Dsn, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn.conninfo, autocommit=True) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


def fill(dsn: Dsn) -> None:
    execute(
        dsn,
        "INSERT INTO users (id, email) SELECT gen_random_uuid(), n || '@example.com' FROM generate_series(1, 20) AS n",
        "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), id, 'x' FROM users, generate_series(1, 5)",
    )


def content(dsn: Dsn) -> list[tuple[Any, ...]]:
    """All rows, by what tells them apart."""
    users = rows(dsn, "SELECT id, email, revision, created_at FROM users ORDER BY id")
    return users + rows(dsn, "SELECT id, user_id, title, version, created_at FROM tasks ORDER BY id")


def end_connections(dsn: Dsn, database: str, which: str = "true") -> None:
    """Ends connections to a database of this server, when there are any."""
    query = (
        "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND pid <> pg_backend_pid() AND {which}"
    )
    deadline = monotonic() + LONG
    while rows(dsn, query) == [(0,)]:
        assert monotonic() < deadline


def health_of(dsn: Dsn) -> str:
    async def ask() -> str:
        async with open_database(dsn) as database:
            return (await readiness.check(database, LONG)).database

    return asyncio.run(ask())


@contextmanager
def copying(coordinator: Dsn) -> Iterator[list[DistributionError]]:
    """Runs `distribute` in the background, and the block while its tasks are copied. Has the error after the block."""
    failed = list[DistributionError]()

    def try_it() -> None:
        try:
            distribution.distribute(coordinator)
        except DistributionError as error:
            failed.append(error)

    trying = threading.Thread(target=try_it)
    trying.start()
    is_copying = "SELECT FROM pg_dist_partition WHERE logicalrelid = 'tasks'::regclass AND partmethod = 'n'"
    deadline = monotonic() + LONG
    while not rows(coordinator, is_copying):
        assert monotonic() < deadline
    yield failed
    trying.join()


@contextmanager
def down(server: Dsn, database: str) -> Iterator[None]:
    """Keeps everybody out of a database of this server for the block, as if the server were down."""
    for_itself, change = "SET citus.enable_ddl_propagation = off", f"ALTER DATABASE {database} ALLOW_CONNECTIONS"
    execute(server, for_itself, f"{change} false")
    try:
        end_connections(server, database)
        yield
    finally:
        execute(server, for_itself, f"{change} true")


def failing_at(number: int) -> tuple[Step, ...]:
    """The steps, of which this one fails after all that it does."""
    step = STEPS[number]
    return (*STEPS[:number], replace(step, statements=(*step.statements, "SELECT 1 / 0")), *STEPS[number + 1 :])


def test_it_spreads_all_rows_by_owner_says_so_and_has_nothing_to_do_when_it_is_run_again(
    coordinator: Dsn, nodes: list[Dsn]
) -> None:
    fill(coordinator)
    before = content(coordinator)

    outcome, again = (command(url_of(coordinator), "distribute") for _ in range(2))

    assert (outcome.status, outcome.err) == (0, "")
    assert [line.rpartition(" (")[0] for line in outcome.out.splitlines()[:-1]] == NAMES[1:]
    assert outcome.out.endswith("\nThe database is spread.\n")
    assert (again.status, again.out) == (0, "Nothing to do: the database is spread.\n")
    for node in nodes:
        assert content(node) == before
    kinds = dict(rows(coordinator, "SELECT table_name::text, citus_table_type FROM citus_tables"))
    assert kinds == {"tasks": "distributed", "users": "distributed", "alembic_version": "reference"}
    shards = rows(coordinator, "SELECT DISTINCT nodeport FROM citus_shards WHERE citus_table_type = 'distributed'")
    assert len(shards) == len(nodes) - 1
    [user] = rows(coordinator, "DELETE FROM users WHERE email = '7@example.com' RETURNING id")
    assert rows(coordinator, "SELECT count(*) FROM tasks WHERE user_id = %s", *user) == [(0,)]
    assert rows(coordinator, "SELECT count(*) FROM tasks") == [(95,)]


def test_it_may_be_run_again_after_a_failure_at_any_step(coordinator: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(coordinator)
    before = content(coordinator)
    for number, name in enumerate(NAMES[1:], 1):
        monkeypatch.setattr(distribution, "STEPS", failing_at(number))
        with pytest.raises(DistributionError, match=rf"^{name}: division by zero\."):
            distribution.distribute(coordinator)
        monkeypatch.undo()
        assert content(coordinator) == before
        assert len(distribution.status(coordinator).left) <= len(NAMES) - number
        if number == INDEXING:
            # As CREATE INDEX CONCURRENTLY leaves it when it is cut off.
            execute(coordinator, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_users_email'::regclass")
    distribution.distribute(coordinator)
    assert distribution.status(coordinator).left == []
    assert content(coordinator) == before


def test_it_begins_anew_with_the_tasks_when_their_copying_was_cut_off(
    coordinator: Dsn, caplog: pytest.LogCaptureFixture
) -> None:
    fill(coordinator)
    before = content(coordinator)
    with copying(coordinator) as failed:
        assert health_of(coordinator) == "connected"
        copies = "query LIKE 'SELECT create_distributed_table_concurrently%'"
        end_connections(coordinator, coordinator.database, copies)
    [error] = failed
    assert str(error).startswith(f"{NAMES[SPREADING]}: terminating connection due to administrator command. ")
    assert not caplog.records
    assert content(coordinator) == before
    assert health_of(coordinator) == "connected"
    distribution.distribute(coordinator)
    assert distribution.status(coordinator).left == []
    assert content(coordinator) == before


def test_a_node_that_is_down_is_named_and_nothing_is_done(coordinator: Dsn, servers: list[Dsn]) -> None:
    fill(coordinator)
    before = content(coordinator)
    with down(servers[1], coordinator.database):
        for option in ([], ["--dry-run"], ["--status"]):
            outcome = command(url_of(coordinator), "distribute", *option)
            assert (outcome.status, outcome.out, outcome.err.count("\n")) == (1, "", 1)
            node = f"{servers[1].parameters['host']}:{servers[1].parameters['port']}"
            assert outcome.err.startswith(f"Error: {node} does not answer: ")
            assert outcome.err.endswith(". Start it, and run this again.\n")
    assert content(coordinator) == before
    assert len(distribution.status(coordinator).left) == len(NAMES) - 1


def test_a_node_that_goes_down_while_the_tasks_are_copied_loses_nothing(
    coordinator: Dsn, servers: list[Dsn], caplog: pytest.LogCaptureFixture
) -> None:
    fill(coordinator)
    before = content(coordinator)
    with copying(coordinator) as failed, down(servers[1], coordinator.database):
        while not failed:
            sleep(0.1)
        assert len(rows(coordinator, "UPDATE tasks SET title = title RETURNING id")) == 100
        assert content(coordinator) == before
    [error] = failed
    assert str(error).startswith(f"{NAMES[SPREADING]}: ")
    assert str(error).endswith(" The steps before it are done; run it again for the others.")
    assert "\n" not in str(error)
    assert not caplog.records
    distribution.distribute(coordinator)
    assert distribution.status(coordinator).left == []
    assert content(coordinator) == before


def test_a_dry_run_and_the_status_say_what_is_left_and_change_nothing(coordinator: Dsn) -> None:
    plan, status = (command(url_of(coordinator), "distribute", option) for option in ("--dry-run", "--status"))
    assert [line for line in plan.out.splitlines() if line.startswith("-- ")] == [f"-- {name}" for name in NAMES[1:]]
    assert "\ntasks: plain, 1 shard, " in f"\n{status.out}"
    assert plan.out.splitlines()[-1] == status.out.splitlines()[-1] == f"{len(NAMES) - 1} steps left."
    distribution.distribute(coordinator)
    plan, status = (command(url_of(coordinator), "distribute", option) for option in ("--dry-run", "--status"))
    assert plan.out == "The database is spread.\n"
    assert "\ntasks: distributed, " in f"\n{status.out}"
    assert status.out.endswith("\nThe database is spread.\n")
    assert (plan.status, status.status) == (0, 0)


def test_the_servers_role_can_write_through_each_node_before_and_after_its_rights_are_given_anew(
    coordinator: Dsn, nodes: list[Dsn], role: str
) -> None:
    grants.grant(coordinator, role)
    distribution.distribute(coordinator)
    for again in (False, True):
        if again:
            grants.grant(coordinator, role)
        for node in nodes:
            server = Dsn({name: node.parameters[name] for name in ("host", "port", "dbname")} | {"user": role})
            [user] = rows(server, "INSERT INTO users (id) VALUES (gen_random_uuid()) RETURNING id")
            execute(server, f"INSERT INTO tasks (id, user_id, title) VALUES (gen_random_uuid(), '{user[0]}', 'x')")
            for harm in ("SELECT email FROM users", "UPDATE users SET password_hash = '!'", "DROP TABLE tasks"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    execute(server, harm)
    excess = [right for right in grants.grant(coordinator, role) if "users" in right or "tasks" in right]
    assert excess == []


def test_workers_that_are_closed_to_all_take_the_servers_role_when_its_rights_are_given_anew(
    coordinator: Dsn, nodes: list[Dsn], role: str
) -> None:
    for node in nodes:
        close = f"REVOKE ALL ON DATABASE {node.database} FROM PUBLIC"
        execute(node, "SET citus.enable_ddl_propagation = off", close)
    # As if the coordinator had been alone then.
    grants.grant(Dsn(coordinator.parameters | {"options": "-c citus.enable_ddl_propagation=off"}), role)
    distribution.distribute(coordinator)
    grants.grant(coordinator, role)
    server = Dsn({name: coordinator.parameters[name] for name in ("host", "port", "dbname")} | {"user": role})
    for _ in range(10):
        execute(server, "INSERT INTO users (id) VALUES (gen_random_uuid())")


def test_a_schema_that_is_behind_and_a_worker_are_refused(nodes: list[Dsn]) -> None:
    migrator.migrate(nodes[0], "0015")
    outcome = command(url_of(nodes[0]), "distribute")
    assert (outcome.status, outcome.out) == (1, "")
    assert "The database is at revision 0015 instead of 0016" in outcome.err

    migrator.migrate(nodes[0])
    distribution.distribute(nodes[0])
    outcome = command(url_of(nodes[1]), "distribute")
    assert outcome.status == 1
    assert "This is not the coordinator" in outcome.err


def test_a_node_that_forbids_what_the_copying_needs_is_named(coordinator: Dsn, nodes: list[Dsn]) -> None:
    if not rows(coordinator, "SELECT FROM pg_settings WHERE name = 'output_plugin_libraries'"):
        pytest.skip("this PostgreSQL has no output_plugin_libraries")
    change = f"ALTER DATABASE {nodes[1].database} SET output_plugin_libraries = 'pgoutput, test_decoding'"
    execute(nodes[1], "SET citus.enable_ddl_propagation = off", change)
    outcome = command(url_of(coordinator), "distribute")
    assert (outcome.status, outcome.out) == (1, "")
    name = f"{nodes[1].parameters['host']}:{nodes[1].parameters['port']}"
    assert outcome.err == f"Error: {name}: output_plugin_libraries lacks citus. Add it, and reload.\n"


def test_an_owner_who_may_not_see_what_the_copying_needs_is_told_which_right_is_missing(
    coordinator: Dsn, role: str
) -> None:
    if not rows(coordinator, "SELECT FROM pg_settings WHERE name = 'output_plugin_libraries'"):
        pytest.skip("this PostgreSQL has no output_plugin_libraries")
    for table in ("tasks", "users", "alembic_version"):
        execute(coordinator, f"ALTER TABLE {table} OWNER TO {role}")
    owner = url_of(Dsn(coordinator.parameters | {"user": role}))
    outcome = command(owner, "distribute", "--dry-run")
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (1, "", 3)
    assert f" keeps output_plugin_libraries from you: GRANT pg_read_all_settings TO {role}.\n" in outcome.err
    execute(coordinator, f"GRANT pg_read_all_settings TO {role}")
    assert command(owner, "distribute", "--dry-run").status == 0


def test_a_coordinator_that_knows_no_nodes_is_told_how_to_name_them(servers: list[Dsn]) -> None:
    with citus.new_database(servers, known=0) as dsns:
        outcome = command(url_of(dsns[0]), "distribute", "--dry-run")
    assert outcome.status == 1
    assert "Error: Citus knows no nodes yet: run SELECT citus_set_coordinator_host(host, port), and" in outcome.err


def test_a_worker_without_tables_is_told_that_it_is_not_the_coordinator(nodes: list[Dsn]) -> None:
    outcome = command(url_of(nodes[1]), "distribute")
    assert outcome.status == 1
    assert "Error: This is not the coordinator: set DATABASE_URL_DIRECT to its URL." in outcome.err


def test_a_coordinator_without_workers_is_refused(coordinator: Dsn) -> None:
    for port in [port for (port,) in rows(coordinator, "SELECT nodeport FROM pg_dist_node WHERE groupid > 0")]:
        execute(coordinator, f"SELECT citus_remove_node('127.0.0.1', {port})")
    outcome = command(url_of(coordinator), "distribute", "--dry-run")
    assert outcome.status == 1
    assert "No node takes shards: add workers" in outcome.err
