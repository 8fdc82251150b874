"""Gives a role the rights of `persistence/rights.py`, and takes all others from it (docs/adr/0030-two-roles.md)."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from persistence import migrator
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import CONNECT_TIMEOUT
from persistence.rights import FUNCTIONS, RIGHTS, SPREAD_DEFAULTS, THINGS, excess, granted, missing

# Names come back quoted where they have to be.
_ROLE = """
SELECT quote_ident(role.rolname) AS name, role.rolsuper AS is_superuser, quote_ident(current_database()) AS database,
    relnamespace::regnamespace::text AS schema, relowner::regrole::text AS owner,
    pg_has_role(role.oid, relowner, 'MEMBER') AS is_owner, quote_ident(wanted) AS wanted
FROM (VALUES (%s)) AS asked (wanted)
LEFT JOIN pg_roles AS role ON role.rolname = wanted
LEFT JOIN pg_class ON pg_class.oid = to_regclass('tasks')
"""
_GRANTED = sql.SQL("""
SELECT DISTINCT CASE WHEN id > 0 THEN format('REVOKE ALL ON %s %s FROM ', kind, name)
    ELSE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s %s REVOKE ALL ON %s FROM ', owner::regrole, name, kind) END
FROM ({things}) AS things, aclexplode(acl)
WHERE grantee = {role}::regrole AND ({of_all} OR pg_has_role(owner, 'USAGE')) ORDER BY 1
""")
_DEFAULTS = sql.SQL(
    "SELECT id::regclass::text, string_agg(quote_ident(part), ', ' ORDER BY part) FROM ({}) AS defaults GROUP BY id"
).format(sql.SQL(SPREAD_DEFAULTS))


class GrantError(Exception):
    """The role cannot be set up; the text says why and how to mend it."""


def grant(dsn: Dsn, role: str, connect_timeout: int = CONNECT_TIMEOUT) -> list[str]:
    """Sets the role up in one transaction, after any migration that is under way, and returns what it has too much.

    To be run as the owner of the tables. Takes away what this owner can, from this role and from no other. Raises
    `GrantError`, after which nothing has changed, `MigrationError`, and `psycopg.Error`.
    """
    name = sql.Literal(role)
    with _transaction(dsn, connect_timeout) as connection:
        for statement in _statements(connection, role):
            connection.execute(statement.encode())
        if lacking := connection.execute(missing(name).query).fetchall():
            rights = ", ".join(right for (right,) in lacking)
            raise GrantError(f"Nothing was changed, as only another owner can grant: {rights}.")
        return excess(connection.cursor(row_factory=dict_row).execute(granted(name).query))


def statements(dsn: Dsn, role: str, connect_timeout: int = CONNECT_TIMEOUT) -> list[str]:
    """The statements that a superuser would run instead. Needs no rights; raises the same."""
    with _transaction(dsn, connect_timeout) as connection:
        return _statements(connection, role, of_all=True)


@contextmanager
def _transaction(dsn: Dsn, connect_timeout: int) -> Iterator[psycopg.Connection]:
    with migrator.locked_connection(dsn, connect_timeout) as locked, locked.begin():
        connection = locked.connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        yield connection


def _statements(connection: psycopg.Connection, role: str, *, of_all: bool = False) -> list[str]:
    found = connection.cursor(row_factory=dict_row).execute(_ROLE, [role]).fetchone()
    assert found
    name, schema = found["name"], found["schema"]
    if name is None:
        raise GrantError(
            f"There is no such role. Make it in psql, with a password of your own, and try again:"
            f" CREATE ROLE {found['wanted']} LOGIN PASSWORD '...';"
        )
    if schema is None:
        raise GrantError("There are no tables yet. Run `manage.py migrate_sql` first.")
    if found["is_superuser"]:
        raise GrantError(f"{name} is a superuser, whom nothing is forbidden. Make another role for the server.")
    if found["is_owner"]:
        raise GrantError(f"{name} is {found['owner']}, the owner of the tables, or a member of it.")
    defaults = connection.execute(_DEFAULTS).fetchall()
    # Names have their schema from here on, as others may run the statements.
    connection.execute("SET LOCAL search_path = pg_catalog")
    revoked = connection.execute(_GRANTED.format(things=THINGS, role=sql.Literal(name), of_all=of_all)).fetchall()
    connection.execute("SELECT set_config('search_path', %s, true)", [schema])
    return [
        *(f"{statement}{name}" for (statement,) in revoked),
        f"GRANT CONNECT ON DATABASE {found['database']} TO {name}",
        f"GRANT USAGE ON SCHEMA {schema} TO {name}",
        *(
            f"GRANT {right.privilege}{f' ({", ".join(right.columns)})' if right.columns else ''}"
            f" ON {schema}.{right.table} TO {name}"
            for right in RIGHTS
        ),
        *(f"GRANT INSERT ({columns}) ON {schema}.{table} TO {name}" for table, columns in defaults),
        *(f"GRANT EXECUTE ON FUNCTION {schema}.{function} TO {name}" for function in FUNCTIONS),
    ]
