"""Fixtures for all tests: Alice and Bob, a real PostgreSQL, and the application in this process.

Tests share one migrated database in each pytest worker and never clean up: every test makes users of its own, and no
user can see anything of another. A test that changes the schema takes `empty_dsn` or `migrated_dsn`, a database of its
own.
"""

import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from config.asgi import handler
from identity.verifier import Verifier
from persistence import grants, migrator
from persistence.development import embedded_postgres
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.database.helpers import new_user
from tests.support import contract
from tests.support.databases import SERVER, as_owner, migrated_template, new_role, temporary_database
from tests.support.nodes import IS_SPREAD
from tests.support.servers import PostgresServer
from web.handler import Message, Receive, Send

# httpx looks for this optional module at every request, and would search the whole path each time.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type] # None is how an import is refused

# The tests may run in the background of a shell, which ignores what a terminal sends, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

FAST = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of servers first: they wait more than they work, and would be alone at the end.

    Skips those that speak of plain PostgreSQL where the database is spread.
    """
    items.sort(key=lambda item: "/server/" not in item.nodeid)
    for item in items:
        if IS_SPREAD and (plain := item.get_closest_marker("plain")):
            item.add_marker(pytest.mark.skip(f"speaks of plain PostgreSQL: {plain.args[0]}"))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all pytest workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def server(run_folder: Path) -> Iterator[Dsn]:
    """A PostgreSQL that all pytest workers share: `TEST_DATABASE_URL`, or an embedded one."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield Dsn.parse(url)
        return
    with embedded_postgres.running(run_folder / "postgres", FAST) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def server_role(server: Dsn) -> Iterator[dict[str, str]]:
    """The role of this pytest worker with the rights of a server."""
    with new_role(server) as role:
        yield role


@pytest.fixture(scope="session")
def template(server: Dsn, server_role: dict[str, str]) -> Iterator[str]:
    """The name of a migrated database to copy, which takes less time than its migrations."""
    with migrated_template(server, server_role) as name:
        yield name


@pytest.fixture(scope="session")
def dsn(server: Dsn, template: str) -> Iterator[Dsn]:
    """The migrated database of this pytest worker, as a server has it."""
    with temporary_database(server, template) as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(server: Dsn) -> Iterator[Dsn]:
    """A database of the test's own, with nothing in it, for its owner."""
    with temporary_database(server) as dsn:
        yield dsn


@pytest.fixture
def migrated_dsn(server: Dsn, template: str) -> Iterator[Dsn]:
    """A migrated database of the test's own, as a server has it."""
    with temporary_database(server, template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def database(dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(dsn, DatabaseOptions()) as database:
        yield database


@pytest.fixture(scope="session")
async def owner(dsn: Dsn) -> AsyncIterator[Database]:
    """The same database for its owner, which can make tasks of any age, and users with an address."""
    async with open_database(as_owner(dsn), DatabaseOptions(PoolLimits(1, 2))) as database:
        yield database


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, from bytes to bytes; only the web server is missing."""
    async with client_of(database) as client:
        yield client


def client_of(database: Database, verifier: Verifier | None = None, **state: Any) -> httpx.AsyncClient:
    """A client of the application, which asks for tokens if there is a verifier of them.

    `state` is what the server's lifespan state holds besides.
    """

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await handler({**scope, "state": {"database": database, "verifier": verifier, **state}}, receive, send)

    transport = httpx.ASGITransport(app=application, raise_app_exceptions=True)
    hooks = {"response": [contract.check_async]}
    return httpx.AsyncClient(transport=transport, base_url="http://test/api", event_hooks=hooks)


@pytest.fixture
def hypothesis_home(tmp_path: Path) -> Iterator[None]:
    """Hypothesis would leave a folder in the current one."""
    # Only here, as it takes a quarter of a second that most processes of pytest need not spend.
    from hypothesis.configuration import set_hypothesis_home_dir

    set_hypothesis_home_dir(tmp_path)
    yield
    set_hypothesis_home_dir(None)


@pytest.fixture
async def alice(database: Database) -> UUID:
    return await new_user(database)


@pytest.fixture
async def bob(database: Database) -> UUID:
    return await new_user(database)


@pytest.fixture(scope="session")
def cluster(run_folder: Path) -> Path:
    """The folder of a stopped PostgreSQL with a migrated database. A copy costs a fifth of making another."""
    folder, unfinished = run_folder / "cluster", run_folder / "cluster.part"
    with (run_folder / "cluster.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with PostgresServer(unfinished) as server, server.administrator() as admin:
                admin.execute(f"CREATE ROLE {SERVER} LOGIN")
                migrator.migrate(server.dsn)
                grants.grant(server.dsn, SERVER)
                # Half of the files to copy would be those of databases that nothing uses.
                for name in ("template0", "template1"):
                    admin.execute(f"ALTER DATABASE {name} IS_TEMPLATE false")
                    admin.execute(f"DROP DATABASE {name}")
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL of this pytest worker for `postgres`: one for each test would take a second of CPU time."""
    with PostgresServer(tmp_path_factory.mktemp("own") / "pg", template=cluster) as server:
        server.role = SERVER
        with server.administrator() as admin:
            admin.execute("ALTER DATABASE todo RENAME TO original")
        yield server


@pytest.fixture
def postgres(own_server: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL with a migrated database; the test may stop, freeze and kill it, and change its roles and rules."""
    rules = own_server.folder / "data" / "pg_hba.conf"
    before = rules.read_bytes()
    with own_server.administrator() as admin:
        admin.execute("CREATE DATABASE todo TEMPLATE original")
        admin.execute("REVOKE TEMPORARY ON DATABASE todo FROM PUBLIC")
    # The first connection to a database takes longer, as it makes a cache for the others.
    psycopg.connect(as_owner(own_server.dsn).conninfo).close()
    yield own_server
    own_server.thaw()
    own_server.start()
    rules.write_bytes(before)
    with own_server.administrator() as admin:
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("DROP DATABASE todo WITH (FORCE)")
        roles = "SELECT quote_ident(rolname) FROM pg_roles WHERE oid >= 16384 AND rolname <> %s"
        for (role,) in admin.execute(roles, [SERVER]).fetchall():
            admin.execute(f"DROP ROLE {role}".encode())
