"""Databases of as many locales as the server has."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql

from persistence.postgres.dsn import Dsn

LOCALES = [
    *(
        f"LOCALE_PROVIDER libc LOCALE '{name}'"
        for name in ("C", "C.UTF-8", "en_US.UTF-8", "tr_TR.UTF-8", "cs_CZ.UTF-8")
    ),
    *(f"LOCALE_PROVIDER builtin BUILTIN_LOCALE '{name}' LOCALE 'C'" for name in ("C", "C.UTF-8", "PG_UNICODE_FAST")),
    *(f"LOCALE_PROVIDER icu ICU_LOCALE '{name}' LOCALE 'C'" for name in ("und", "tr", "de-u-kf-upper")),
]
"""Options of CREATE DATABASE; the version, the build and the machine of the server decide which of them work."""


@contextmanager
def databases_of_many_locales(server: Dsn) -> Iterator[dict[str, Dsn]]:
    """Empty databases by their options, at least two."""
    databases: dict[str, Dsn] = {}
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        for options in LOCALES:
            dsn = server.with_database(f"test_{uuid4().hex}")
            create = f"CREATE DATABASE {dsn.database} TEMPLATE template0 ENCODING 'UTF8' {options}"
            try:
                admin.execute(create.encode())
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.DataError, psycopg.errors.ProgrammingError):
                continue
            databases[options] = dsn
        try:
            assert len(databases) > 1
            yield databases
        finally:
            for dsn in databases.values():
                name = sql.Identifier(dsn.database)
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
