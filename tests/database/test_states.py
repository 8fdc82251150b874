"""What is promised of health, requests, migrations, commands and rights, on databases in every state."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import grants, history, migrator, users
from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import SchemaMismatch
from tests.conftest import client_of
from tests.database.conftest import MigrationFiles
from tests.support.contract import OPERATIONS
from tests.support.databases import as_owner, execute
from tests.support.helpers import Client, Response, call
from tests.support.nodes import IS_SPREAD
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, command, url_of

REVISIONS = list(history.revisions())
HEAD = REVISIONS[-1]
HEALTHY = (200, "healthy", "connected", "up-to-date")
UNUSABLE = (503, "unhealthy", "unusable")
EVERY_FILTER = (
    "?q=milk&status=pending&priority=low&tag=home&overdue=false&due_after=2030-01-01T00:00:00Z"
    "&created_after=2020-01-01T00:00:00Z&updated_before=2090-01-01T00:00:00Z&sort=title"
)
TRASHING = ("delete_task", "restore_task", "delete_task", "erase_task", "empty_trash")
"""Operations that a task goes through at last; each needs the one before."""
ENTER = ("GRANT CONNECT ON DATABASE todo TO todo_server", "GRANT USAGE ON SCHEMA public TO todo_server")
"""The rights without which nothing at all can be seen."""
_DEFAULTS = "created_at, email_verified, horizon, is_active, is_erased, password_hash, revision, updated_at"
DEFAULTS = f", INSERT ({_DEFAULTS}) on users." if IS_SPREAD else "."
"""The columns with a default, which Citus names when it hands an INSERT on."""
LINES = ("dbhealth", "migrate_sql --check", "migrate_sql --status --json", "migrate_sql --sql", "migrate_sql",
         "seed_dev", "seed_dev --users 1 --tasks 1", "create_user alice@example.com")  # fmt: skip
"""Command lines; `migrate_sql` makes the schema that the ones after it find."""

SEEDS = ("seed_dev", "seed_dev --users 1 --tasks 1", "runserver --seed")
ASK_FOR_THE_REVISION = (*LINES[:5], "runserver --seed")


@dataclass(frozen=True)
class State:
    """What is to be seen: the answer of health, and how many of the seven operations on tasks work."""

    health: tuple[int | str, ...] = HEALTHY
    works: tuple[str, ...] = ("POST", "GET", "PUT", "PATCH", "DELETE")
    says: Mapping[str, str] = field(default_factory=dict)
    """Words that the outcome of a command line has, which then fails; the others succeed."""


@contextmanager
def as_server(dsn: Dsn, *revoked: str) -> Iterator[Dsn]:
    """The same database for a new role that has the rights of the server, except for some."""
    with as_role(dsn) as role:
        name = role.parameters["user"]
        assert grants.grant(as_owner(dsn), name) == []
        execute(dsn, *(f"REVOKE {right} FROM {name}" for right in revoked))
        yield role


@contextmanager
def as_role(dsn: Dsn, *rights: str) -> Iterator[Dsn]:
    """The same database for a new role that has these rights and no others."""
    role = f"role_{uuid4().hex}"
    with psycopg.connect(as_owner(dsn).conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'".encode())
        database = f"DATABASE {dsn.database}"
        for thing in (database, "SCHEMA public", "ALL TABLES IN SCHEMA public", "ALL FUNCTIONS IN SCHEMA public"):
            admin.execute(f"REVOKE ALL ON {thing} FROM PUBLIC".encode())
        for right in rights:
            admin.execute(right.replace("todo_server", role).replace("DATABASE todo", database).encode())
        yield Dsn(dsn.parameters | {"user": role, "password": "hunter2"})
        admin.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = %s", [role])
        admin.execute(f"DROP OWNED BY {role}".encode())
        admin.execute(f"DROP ROLE {role}".encode())


def new_user(dsn: Dsn) -> UUID:
    """A user in the database, if there can be one."""
    user = uuid4()
    with psycopg.connect(as_owner(dsn).conninfo, autocommit=True) as admin:
        row = admin.execute("SELECT to_regclass('users') IS NOT NULL AND NOT pg_is_in_recovery()").fetchone()
        if row == (True,):
            admin.execute("SET default_transaction_read_only = off")
            admin.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user, f"{user}@example.com"])
    return user


async def every_answer(client: Client, user: UUID) -> list[Response]:
    """The answers of all operations on tasks, with every part of their statements."""
    task = uuid4()
    body = {"id": str(task), "title": "Buy milk", "tags": ["home"]}
    others = [name for name, each in OPERATIONS.items() if each.is_of_a_user and name not in ("create_task", *TRASHING)]
    answers = [await call(client, OPERATIONS["create_task"], user, json=body)]
    return answers + [
        await call(client, OPERATIONS[name], user, task, query=EVERY_FILTER if name == "list_tasks" else "")
        for name in (*others, *TRASHING)
    ]


async def can_erase(dsn: Dsn) -> bool:
    """Tells if an account can be erased and looked at, which no operation on tasks does."""
    async with open_database(dsn) as database:
        try:
            await users.erase(database, user := uuid4())
            return (await users.account(database, user)).is_erased
        except SchemaMismatch:
            return False


async def look(dsn: Dsn, user: UUID) -> tuple[tuple[int | str, ...], list[Response]]:
    async with open_database(dsn) as database, client_of(database) as client:
        health = await client.get("v1/health")
        data: dict[str, str] = health.json()["data"]
        return (health.status_code, *data.values()), await every_answer(client, user)


def check_requests(dsn: Dsn, admin: Dsn, state: State) -> None:
    """Health is what is expected, and 200 only if all requests work; none is a fault of the service."""
    health, answers = asyncio.run(look(dsn, new_user(admin)))
    assert health[: len(state.health)] == state.health
    for answer in answers:
        request = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        # A restore changes a task that is there.
        method = "PATCH" if answer.request.url.path.endswith("/restore") else answer.request.method
        works = method in state.works
        # Without its creation there is no task.
        expected = (200, 201, 204, *(() if "POST" in state.works else (404,))) if works else (503,)
        if answer.request.url.path.endswith("/import"):
            # It looks for the user before it writes, and a standby may not have the new user yet.
            expected = (*expected, 404)
        assert answer.status_code in expected, request
    assert health[0] == 503 or all(answer.status_code < 300 for answer in answers)


def check_commands(dsn: Dsn, state: State) -> None:
    """Each ends with status 0, or with status 1 and the expected words in one line."""
    for line in dict.fromkeys((*LINES, *state.says)):
        address = [str(free_port())] * line.startswith("runserver")
        outcome = command(url_of(dsn), *line.split(), *address)
        said = state.says.get(line)
        assert (outcome.status, "Traceback" in outcome.err) == (0 if said is None else 1, False), (line, outcome)
        assert (said or "") in outcome.out + outcome.err, (line, outcome)
        assert outcome.err.count("\n") <= 1, (line, outcome)


def test_an_empty_database_cannot_serve_and_is_migrated_and_seeded(empty_dsn: Dsn) -> None:
    check_requests(empty_dsn, empty_dsn, State((*UNUSABLE, "behind"), ()))
    check_commands(
        empty_dsn, State(says={"dbhealth": 'relation "tasks" does not exist', "migrate_sql --check": "is behind"})
    )
    check_requests(empty_dsn, empty_dsn, State())


@pytest.mark.parametrize("revision", REVISIONS)
def test_at_each_revision_health_is_200_exactly_if_all_requests_work(
    revision: str, empty_dsn: Dsn, caplog: pytest.LogCaptureFixture
) -> None:
    migrator.migrate(empty_dsn, revision)
    health, answers = asyncio.run(look(empty_dsn, new_user(empty_dsn)))
    statuses = {answer.status_code for answer in answers}
    works = 503 not in statuses and asyncio.run(can_erase(empty_dsn))

    assert statuses <= {200, 201, 204, 404, 503}
    assert health == ((*UNUSABLE, "behind") if not works else HEALTHY if revision == HEAD else (*HEALTHY[:3], "behind"))
    assert command(url_of(empty_dsn), "dbhealth").status == int(not works)
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["type"] == "urn:problem:todo:schema-mismatch"
            assert int(answer.headers["Retry-After"]) >= 1
            assert re.search(r"Answering 503: .+ \(42...: .+\)", caplog.text)
    assert (revision, works) not in {(REVISIONS[0], True), (HEAD, False)}


def test_a_database_at_two_revisions_is_refused_by_all_that_asks_for_its_revision(migrated_dsn: Dsn) -> None:
    execute(migrated_dsn, "INSERT INTO alembic_version VALUES ('0001')")
    both = f"The database is at 0001 and {HEAD} at once"

    check_requests(migrated_dsn, migrated_dsn, State((503, "unhealthy", "connected", "unknown")))
    check_commands(migrated_dsn, State(says=dict.fromkeys(ASK_FOR_THE_REVISION, both)))


@pytest.fixture
def two_heads(revisions: MigrationFiles) -> str:
    """The message about the files of a history that has two newest revisions."""
    number = revisions.add("pass")
    older = next(revisions.versions.glob(f"{HEAD}_*"))
    other = revisions.versions / f"{number}_try_it.py"
    newer = other.rename(revisions.versions / f"{older.stem}_again.py")
    history.revisions.cache_clear()
    return f"{newer.name} does not follow {older.name}"


def test_files_with_two_heads_are_refused_by_all_that_asks_for_the_revision(migrated_dsn: Dsn, two_heads: str) -> None:
    check_requests(migrated_dsn, migrated_dsn, State((503, "unhealthy", "connected", "unknown")))
    check_commands(migrated_dsn, State(says=dict.fromkeys(ASK_FOR_THE_REVISION, two_heads)))


def test_the_rights_of_the_server_are_enough_for_it_and_for_the_commands_that_run_as_it(migrated_dsn: Dsn) -> None:
    with as_server(migrated_dsn) as dsn:
        check_requests(dsn, migrated_dsn, State())
        assert asyncio.run(can_erase(dsn))
        for line in ("dbhealth", "migrate_sql --check", "migrate_sql --status", "migrate_sql --sql", "purge"):
            assert command(url_of(dsn), *line.split()).status == 0
        assert "Rights:     no more than the server needs\n" in command(url_of(dsn), "dbhealth").out
        execute(migrated_dsn, f"GRANT UPDATE (email) ON users TO {dsn.parameters['user']}")
        too_much = command(url_of(dsn), "dbhealth")
        assert too_much.out.endswith("Rights:     more than the server needs\n            UPDATE (email) on users\n")
        assert too_much.status == 0


@pytest.mark.parametrize(
    ("right", "named", "works"),
    [
        ("SELECT ON tasks", "Missing rights: SELECT on tasks.", ()),
        ("INSERT ON tasks", "Missing rights: INSERT (id, user_id, title, ", ("GET", "PUT", "PATCH", "DELETE")),
        # An import only inserts.
        ("UPDATE ON tasks", "Missing rights: UPDATE (id, title, ", None),
        ("DELETE ON tasks", "Missing rights: DELETE on tasks.", State.works),
        ("SELECT ON users", "Missing rights: SELECT (id, created_at, updated_at, is_erased, ", None),
        ("UPDATE ON users", "Missing rights: UPDATE (revision", ("GET",)),
        ("INSERT ON users", "Missing rights: INSERT (id, is_active, is_erased) on users" + DEFAULTS, State.works),
        ("DELETE ON users", "Missing rights: DELETE on users.", State.works),
        ("SELECT ON alembic_version", "Missing rights: SELECT on alembic_version.", State.works),
        *(
            (f"EXECUTE ON FUNCTION {name}", f"Missing rights: EXECUTE on function {name}(", None)
            for name in ("folded", "tag_keys", "valid_tags")
        ),
        ("USAGE ON SCHEMA public", "Missing rights: USAGE on schema public.", ()),
    ],
)
def test_without_one_of_the_rights_health_is_503_and_dbhealth_and_the_log_name_it(
    migrated_dsn: Dsn, right: str, named: str, works: tuple[str, ...] | None, caplog: pytest.LogCaptureFixture
) -> None:
    with as_server(migrated_dsn, right) as dsn:
        if works is None:
            health, answers = asyncio.run(look(dsn, new_user(migrated_dsn)))
            assert health[:3] == UNUSABLE
            assert 503 in {answer.status_code for answer in answers}
        else:
            check_requests(dsn, migrated_dsn, State(UNUSABLE, works))
        outcome = command(url_of(dsn), "dbhealth")
    assert (outcome.status, outcome.err) == (1, "")
    assert named in outcome.out
    assert "Traceback" not in caplog.text
    if works != State.works:
        thing = "tasks" if right.startswith("USAGE") else right.rsplit(maxsplit=1)[-1]
        assert re.search(rf"Answering 503: .+ \(42...: (permission denied for|relation) .*{thing}", caplog.text)


def test_a_schema_that_the_role_may_not_use_is_not_taken_for_an_empty_database(migrated_dsn: Dsn) -> None:
    rights = "Missing rights: USAGE on schema public. Run `manage.py grant_app` for the server"
    with as_server(migrated_dsn, "USAGE ON SCHEMA public") as dsn:
        check_requests(dsn, migrated_dsn, State((*UNUSABLE, "unknown"), ()))
        for line in ASK_FOR_THE_REVISION[1:-1]:
            refused = command(url_of(dsn), *line.split())
            assert (refused.status, refused.out) == (1, "")
            assert rights in refused.err
        assert "Run `manage.py migrate_sql`.\n" not in command(url_of(dsn), "dbhealth").out


def test_a_schema_that_has_the_name_of_the_role_is_looked_for_as_well(migrated_dsn: Dsn) -> None:
    with as_role(migrated_dsn, *ENTER[:1]) as dsn:
        role = dsn.parameters["user"]
        execute(migrated_dsn, f"ALTER SCHEMA public RENAME TO {role}", "CREATE SCHEMA public")
        assert f"Missing rights: USAGE on schema {role}." in command(url_of(dsn), "migrate_sql", "--status").err
        # A table that can be seen is the one that counts.
        table = "public.alembic_version"
        execute(migrated_dsn, f"CREATE TABLE {table} (version_num text)", f"GRANT SELECT ON {table} TO {role}")
        execute(migrated_dsn, f"GRANT USAGE ON SCHEMA public TO {role}")
        assert "behind (at nothing" in command(url_of(dsn), "migrate_sql", "--status").out


def test_a_role_that_may_not_migrate_is_told_to_be_the_owner(migrated_dsn: Dsn, empty_dsn: Dsn) -> None:
    owner = "set DATABASE_URL_DIRECT to a URL of the role that owns the tables"
    with as_server(migrated_dsn) as dsn:
        down = command(url_of(dsn), "migrate_sql", "--down", "1")
    with as_role(empty_dsn, *ENTER) as dsn:
        up = command(url_of(dsn), "migrate_sql")
    nowhere = command(f"{url_of(empty_dsn)}&options=-c%20search_path%3Dnowhere", "migrate_sql")

    assert f"must be owner of table tasks; {owner}" in down.err
    assert f"permission denied for schema public; {owner}" in up.err
    assert "no schema has been selected to create in; let the search_path" in nowhere.err


def test_a_schema_of_another_application_hides_nothing(empty_dsn: Dsn) -> None:
    execute(empty_dsn, "CREATE SCHEMA other", "CREATE TABLE other.alembic_version (version_num text)")
    with as_role(empty_dsn, *ENTER) as dsn:
        check_requests(dsn, empty_dsn, State((*UNUSABLE, "behind"), ()))
        assert "behind (at nothing" in command(url_of(dsn), "migrate_sql", "--status").out


def test_a_role_without_any_rights_gets_a_line_from_each_command_that_names_what_is_missing(migrated_dsn: Dsn) -> None:
    with as_role(migrated_dsn, *ENTER) as dsn:
        tables = {line: "alembic_version" if "migrate_sql" in line else "users" for line in LINES}
        denied = {line: f"42501: permission denied for table {table}" for line, table in tables.items()}
        missing = "Missing rights: SELECT on alembic_version, DELETE on tasks, INSERT (id, user_id, title, "
        seeding = {"runserver --seed": denied["migrate_sql"]}
        check_commands(dsn, State(says=denied | seeding | {"dbhealth": missing}))


LOCALES = {
    "C": "LOCALE_PROVIDER libc LOCALE 'C'",
    "built-in C": "LOCALE_PROVIDER builtin LOCALE 'C'",
    "built-in C.UTF-8": "LOCALE_PROVIDER builtin LOCALE 'C.UTF-8'",
    "Turkish": "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'",
}


@contextmanager
def made(server: Dsn, options: str) -> Iterator[Dsn]:
    """A database with options that a template may not have."""
    dsn = server.with_database(f"test_{uuid4().hex}")
    try:
        execute(server, f"CREATE DATABASE {dsn.database} TEMPLATE template0 {options}")
    except psycopg.errors.FeatureNotSupported as error:
        pytest.skip(str(error))
    yield dsn
    execute(server, f"DROP DATABASE {dsn.database} WITH (FORCE)")


# C has the fewest letters. What requests answer is the same in all of them: see tests/database/test_locales.py.
@pytest.mark.parametrize(
    "locale", [locale if locale == "C" else pytest.param(locale, marks=pytest.mark.slow) for locale in LOCALES]
)
def test_in_every_locale_all_works(server: Dsn, locale: str) -> None:
    with made(server, f"ENCODING 'UTF8' {LOCALES[locale]}") as dsn:
        check_commands(
            dsn, State(says={"dbhealth": 'relation "tasks" does not exist', "migrate_sql --check": "is behind"})
        )
        check_requests(dsn, dsn, State())


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_is_refused_by_all_that_connects(server: Dsn, encoding: str) -> None:
    with made(server, f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'") as dsn:
        says = (
            f"its encoding is {encoding}, in which not every text can be stored. Make another database: CREATE DATABASE"
        )
        check_commands(dsn, State(says=dict.fromkeys((*LINES, "runserver --seed"), says)))


def test_a_database_that_only_reads_by_a_setting_says_so(migrated_dsn: Dsn) -> None:
    execute(migrated_dsn, f"ALTER DATABASE {migrated_dsn.database} SET default_transaction_read_only = on")
    only_reads(migrated_dsn)


# It takes the test above and a second PostgreSQL.
@pytest.mark.slow
def test_a_standby_says_that_it_only_reads(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.standby(tmp_path / "standby") as standby:
        # The first statement of these takes a lock, which a standby refuses in words of its own.
        only_reads(standby.dsn, dict.fromkeys(SEEDS, "during recovery. The server only reads"))


def only_reads(dsn: Dsn, says: Mapping[str, str] = {}) -> None:
    check_requests(dsn, dsn, State((503, "unhealthy", "read-only", "up-to-date"), ("GET",)))
    refused = "in a read-only transaction. The server only reads"
    check_commands(dsn, State(says=dict.fromkeys(("dbhealth", *LINES[5:], "runserver --seed"), refused) | {**says}))
    down = command(url_of(dsn), "migrate_sql", "--down", "1")
    assert "in a read-only transaction; the server only reads" in down.err
