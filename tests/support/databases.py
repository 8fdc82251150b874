"""Databases that a test has to itself, and the two roles that use them.

A migrated database is that of a role with the rights of the server. A test that does what the server may not says so by
`as_owner`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from persistence import grants, migrator
from persistence.postgres.dsn import Dsn
from tests.support.nodes import IS_SPREAD, connect_nodes, make_template, nodes_of

SERVER = "todo_server"
"""The server's role in a PostgreSQL of a test's own, where no role needs a password."""
_OWNERS = {SERVER: {"user": "postgres"}}
"""How to connect as the owner, by the name of a role that has the rights of the server."""
_ROLES: dict[str, dict[str, str]] = {}
"""The role that has these rights in a template, and in each copy of it."""
_SERVERS: dict[str, Sequence[Dsn]] = {}
"""The servers that have a template, the one that is connected to first."""


def as_owner(dsn: Dsn) -> Dsn:
    """The same database for the role that has made the tables, and everything else."""
    owner = _OWNERS.get(dsn.parameters.get("user", ""))
    if owner is None:
        return dsn
    return Dsn({name: dsn.parameters[name] for name in dsn.parameters if name != "password"} | owner)


@contextmanager
def new_role(server: Dsn) -> Iterator[dict[str, str]]:
    """A new role for servers, with no rights yet: its name and its password."""
    role = {"user": f"test_{uuid4().hex}", "password": uuid4().hex}
    _OWNERS[role["user"]] = {name: server.parameters[name] for name in role if name in server.parameters}
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role['user']} LOGIN PASSWORD '{role['password']}'".encode())
    yield role
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(f"DROP ROLE {role['user']}".encode())


@contextmanager
def migrated_template(server: Dsn, role: dict[str, str]) -> Iterator[str]:
    """The name of a database to copy, in which the role has its rights. With `TEST_SPREAD` it is spread."""
    servers = nodes_of(server) if IS_SPREAD else [server]
    with database_on(servers) as nodes:
        dsn = nodes[0]
        migrator.migrate(dsn)
        grants.grant(dsn, role["user"])
        if IS_SPREAD:
            connect_nodes(nodes)
            make_template(servers, dsn)
        _ROLES[dsn.database], _SERVERS[dsn.database] = role, servers
        yield dsn.database


@contextmanager
def temporary_database(server: Dsn, template: str = "template1") -> Iterator[Dsn]:
    """A copy of the template, spread if that is, for the role that has rights there, else the owner."""
    with database_on(_SERVERS.get(template, [server]), template) as nodes:
        yield Dsn(nodes[0].parameters | _ROLES.get(template, {}))


@contextmanager
def database_on(servers: Sequence[Dsn], template: str = "template1") -> Iterator[list[Dsn]]:
    """A copy of the template, which nothing may be connected to, on each of these servers, for its owner."""
    database = f"test_{uuid4().hex}"
    name = sql.Identifier(database)
    for server in servers:
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            # The other strategy writes each page to the log, which takes twice as long.
            command = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
            admin.execute(command.format(name, sql.Identifier(template)))
            if template in _ROLES:
                # Rights to a database are not copied.
                admin.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(name))
    try:
        yield [server.with_database(database) for server in servers]
    finally:
        for server in servers:
            _drop(server, name)


def _drop(server: Dsn, database: sql.Identifier) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        # Citus has a process in each database, which may be back as soon as it is ended.
        for is_last in (False, False, True):
            try:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
            except psycopg.errors.ObjectInUse:
                if is_last:
                    raise
            else:
                return


def migrate_and_grant(dsn: Dsn) -> None:
    """Goes to the newest revision and gives the server's role its rights to it, as its operator would."""
    migrator.migrate(as_owner(dsn))
    grants.grant(as_owner(dsn), dsn.parameters["user"])


def execute(dsn: Dsn, *queries: str) -> None:
    """Runs each as the owner, in a transaction of its own."""
    with psycopg.connect(as_owner(dsn).conninfo, autocommit=True) as connection:
        for query in queries:
            connection.execute(query.encode())


def new_user(dsn: Dsn) -> UUID:
    user_id = uuid4()
    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user_id, f"{user_id}@example.com"])
    return user_id
