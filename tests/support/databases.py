"""Databases that a test has to itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from persistence.postgres.dsn import Dsn


@contextmanager
def temporary_database(server: Dsn, template: str = "template1") -> Iterator[Dsn]:
    """A copy of the template, which nothing may be connected to."""
    dsn = server.with_database(f"test_{uuid4().hex}")
    name = sql.Identifier(dsn.database)
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        # The other strategy writes each page to the log, which takes twice as long.
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        admin.execute(command.format(name, sql.Identifier(template)))
    yield dsn
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def new_user(dsn: Dsn) -> UUID:
    user_id = uuid4()
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user_id, f"{user_id}@example.com"])
    return user_id
