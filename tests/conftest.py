"""The cast and the stage: Alice and Bob, a real PostgreSQL, and the application in this process or under gunicorn.

Tests share one migrated database in each pytest worker and never clean up: every test makes users of its own, and
nothing one user does can be seen by another. A test that changes the schema takes `empty_dsn`, a database of its own.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg import sql

from config.asgi import handler
from persistence import migrator, users
from persistence.development import embedded_postgres
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from tests.support import contract
from tests.support.servers import PostgresServer
from web.handler import Message, Receive, Send

FAST = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dsn]:
    """A PostgreSQL that all pytest workers share: `TEST_DATABASE_URL`, or the embedded one in a folder of this run."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield Dsn.parse(url)
        return
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with embedded_postgres.running(base / "postgres", FAST) as dsn:
        yield dsn


def _make_database(server: Dsn) -> Dsn:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server.with_database(name)


def _drop_database(server: Dsn, dsn: Dsn) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(dsn.database)))


@pytest.fixture(scope="session")
def dsn(server: Dsn) -> Iterator[Dsn]:
    """The migrated database of this pytest worker."""
    dsn = _make_database(server)
    migrator.migrate(dsn)
    yield dsn
    _drop_database(server, dsn)


@pytest.fixture
def empty_dsn(server: Dsn) -> Iterator[Dsn]:
    """A database of the test's own, with nothing in it."""
    dsn = _make_database(server)
    yield dsn
    _drop_database(server, dsn)


@pytest.fixture(scope="session")
async def database(dsn: Dsn) -> AsyncIterator[Database]:
    async with open_database(dsn, DatabaseOptions()) as database:
        yield database


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, from bytes to bytes; only the web server is missing."""
    async with client_of(database) as client:
        yield client


def client_of(database: Database) -> httpx.AsyncClient:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await handler({**scope, "state": {"database": database}}, receive, send)

    transport = httpx.ASGITransport(app=application, raise_app_exceptions=True)
    hooks = {"response": [contract.check_async]}
    return httpx.AsyncClient(transport=transport, base_url="http://test/api", event_hooks=hooks)


async def _new_user(database: Database, name: str) -> UUID:
    user_id = await users.create(database, f"{name}-{uuid4()}@example.com", name)
    assert user_id
    return user_id


@pytest.fixture
async def alice(database: Database) -> UUID:
    return await _new_user(database, "alice")


@pytest.fixture
async def bob(database: Database) -> UUID:
    return await _new_user(database, "bob")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own, migrated, which it may stop, freeze and kill."""
    with PostgresServer(tmp_path / "pg") as server:
        migrator.migrate(server.dsn)
        yield server
