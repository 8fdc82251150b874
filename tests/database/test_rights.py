"""The rights of the server's role: as few as its statements can do with, and what they keep from it."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from persistence import grants, purge, readiness, rights, users
from persistence.grants import GrantError
from persistence.postgres.dsn import Dsn
from tests.database.helpers import Admin
from tests.support.databases import as_owner
from tests.support.nodes import IS_SPREAD

PURGE = [statement for kind in (purge.TRASH, purge.TOMBSTONES) for statement in (kind.number, kind.owners, kind.batch)]
STATEMENTS = [
    *readiness._PARTS.values(),
    *(f"EXPLAIN {readiness._with_constants(statement)}" for statement in PURGE),
    # Citus has no plan for it with NULL.
    f"EXPLAIN {users.PURGE.text.replace('$1', '1')}",
]
"""All that runs as the server's role."""
UNITS = [
    *(f"{right.privilege} ON {right.table}" for right in rights.RIGHTS if not right.columns),
    *(f"{right.privilege} ({column}) ON {right.table}" for right in rights.RIGHTS for column in right.columns),
    *(f"EXECUTE ON FUNCTION {function}" for function in rights.FUNCTIONS),
]


@pytest.fixture
def migrated_dsn(migrated_dsn: Dsn) -> Dsn:
    """For the owner: each test makes a role of its own."""
    return as_owner(migrated_dsn)


@pytest.fixture
def role(admin: Admin) -> Iterator[str]:
    """A role that has nothing in `migrated_dsn`, not even what all have; beside it is one with `_group` at its end."""
    name = f"role_{uuid4().hex}"
    admin.execute(f"CREATE ROLE {name} LOGIN; CREATE ROLE {name}_group LOGIN")
    database = admin.value("SELECT current_database()")
    for things in (f"DATABASE {database}", "SCHEMA public", "ALL FUNCTIONS IN SCHEMA public", "TYPE task_status"):
        admin.execute(f"REVOKE ALL ON {things} FROM PUBLIC")
    yield name
    admin.execute(f"DROP OWNED BY {name}, {name}_group CASCADE; DROP ROLE {name}, {name}_group")


def fails(dsn: Dsn, role: str) -> bool:
    """Tells if any statement of the service fails as this role, and for lack of a right."""
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        connection.execute(readiness._LIMIT.encode())
        try:
            for statement in STATEMENTS:
                connection.execute(statement.encode())
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable):
            return True
    return False


def excess(admin: Admin, role: str) -> list[str]:
    query = rights.granted(sql.Literal(role))
    return rights.excess([dict(zip(query.columns, row, strict=True)) for row in admin.execute(query.text)])


def test_each_right_is_needed_by_a_statement_and_all_together_are_enough(
    migrated_dsn: Dsn, admin: Admin, role: str
) -> None:
    assert grants.grant(migrated_dsn, role) == []
    assert not fails(migrated_dsn, role)
    needless = []
    for unit in [*UNITS, "USAGE ON SCHEMA public"]:
        admin.execute(f"REVOKE {unit} FROM {role}")
        if not fails(migrated_dsn, role):
            needless.append(unit)
        admin.execute(f"GRANT {unit} TO {role}")
    assert needless == []


def test_the_role_can_do_nothing_to_any_table_or_column_beyond_the_list(
    migrated_dsn: Dsn, admin: Admin, role: str
) -> None:
    grants.grant(migrated_dsn, role)
    tables = admin.execute(
        "SELECT privilege || ' ON ' || relname FROM pg_class, unnest(%s::text[]) AS privilege"
        " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND has_table_privilege(%s, oid, privilege)",
        ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
        role,
    )
    columns = admin.execute(
        "SELECT privilege || ' (' || attname || ') ON ' || relname"
        " FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, unnest(%s::text[]) AS privilege"
        " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0"
        " AND has_column_privilege(%s, attrelid, attnum, privilege)"
        " AND NOT has_table_privilege(%s, attrelid, privilege)",
        ["SELECT", "INSERT", "UPDATE", "REFERENCES"],
        role,
        role,
    )
    # Those of a spread database only.
    defaults = admin.execute(
        f"SELECT 'INSERT (' || part || ') ON ' || id::regclass FROM ({rights.SPREAD_DEFAULTS}) AS defaults"
    )
    assert bool(defaults) == IS_SPREAD
    needed = {unit for unit in UNITS if "FUNCTION" not in unit} | {unit for (unit,) in defaults}
    assert {unit for (unit,) in tables + columns} == needed
    assert not admin.value("SELECT has_schema_privilege(%s, 'public', 'CREATE')", role)


HARM = (
    "SELECT email FROM users", "SELECT password_hash FROM users", "SELECT * FROM users",
    "UPDATE users SET password_hash = '!'", "INSERT INTO users (id, email) VALUES (gen_random_uuid(), 'a@b')",
    "UPDATE tasks SET user_id = id", "TRUNCATE tasks", "DROP TABLE tasks", "ALTER TABLE tasks ADD mine int",
    "CREATE TABLE mine ()", "CREATE TEMPORARY TABLE tasks ()", "UPDATE alembic_version SET version_num = '1'",
)  # fmt: skip
# The second is what Citus says of some of them.
REFUSALS = (psycopg.errors.InsufficientPrivilege, *([psycopg.errors.FeatureNotSupported] if IS_SPREAD else []))


def test_the_role_is_kept_from_harm(migrated_dsn: Dsn, role: str) -> None:
    grants.grant(migrated_dsn, role)
    with psycopg.connect(migrated_dsn.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        for statement in HARM:
            with pytest.raises(REFUSALS):
                connection.execute(statement.encode())


EXCESSES = {
    "ALTER ROLE {role} SUPERUSER": ["SUPERUSER"],
    "ALTER ROLE {role} CREATEDB CREATEROLE": ["CREATEDB", "CREATEROLE"],
    "GRANT pg_read_all_data TO {role}": ["membership in pg_read_all_data"],
    "ALTER ROLE {role}_group CREATEDB; GRANT SELECT (email), UPDATE ON users TO {role}_group;"
    "GRANT {role}_group TO {role}": [
        "CREATEDB (as {role}_group)", "SELECT (email), UPDATE on users (as {role}_group)",
    ],
    "ALTER TABLE users OWNER TO {role}": ["ownership of users"],
    "GRANT CREATE ON SCHEMA public TO PUBLIC": ["CREATE on schema public (granted to PUBLIC)"],
    "GRANT CREATE, TEMPORARY ON DATABASE {database} TO {role}": ["CREATE, TEMPORARY on database {database}"],
    "CREATE SCHEMA auth; CREATE TABLE auth.accounts (id int); GRANT SELECT ON auth.accounts TO {role}":
        ["SELECT on auth.accounts"],
    "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {role}": ["EXECUTE on routine pg_read_file(text)"],
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO {role}":
        ["SELECT, UPDATE, USAGE on future sequences in schema public"],
    "GRANT SELECT ON users TO {role}": ["SELECT on users"],
}  # fmt: skip
"""Statements that give a role too much, and how that is called."""


def test_what_a_role_has_too_much_is_named(migrated_dsn: Dsn, admin: Admin, role: str) -> None:
    names = {"role": role, "database": migrated_dsn.database}
    grants.grant(migrated_dsn, role)
    for statement, texts in EXCESSES.items():
        for part in ("BEGIN", *statement.format(**names).split(";")):
            admin.execute(part)
        assert excess(admin, role) == [text.format(**names) for text in texts]
        admin.execute("ROLLBACK")


def test_what_only_the_role_has_too_much_is_taken_away_and_others_keep_theirs(
    migrated_dsn: Dsn, admin: Admin, role: str
) -> None:
    for statement in (
        "CREATE SCHEMA auth; CREATE SEQUENCE numbers; CREATE TABLE auth.accounts (id int, name text)",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}, {role}_group",
        f"GRANT SELECT (name) ON auth.accounts TO {role}; GRANT CREATE ON SCHEMA public, auth TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"GRANT ALL ON DATABASE {migrated_dsn.database} TO {role}",
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {role}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO {role}",
    ):
        admin.execute(statement)
    assert len(excess(admin, role)) > 8
    assert grants.grant(migrated_dsn, role) == excess(admin, role) == []
    admin.execute("CREATE TABLE later (id int)")
    assert excess(admin, role) == []
    assert admin.value("SELECT has_table_privilege(%s, 'users', 'TRUNCATE')", f"{role}_group")


def test_it_does_the_same_again_and_the_printed_statements_do_it_too(
    migrated_dsn: Dsn, admin: Admin, role: str
) -> None:
    acls = "SELECT array_agg(relacl::text ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    printed = grants.statements(migrated_dsn, role)
    assert not admin.value("SELECT has_table_privilege(%s, 'tasks', 'SELECT')", role)
    admin.execute("; ".join(printed))
    states = [admin.value(acls)]
    for _ in range(2):
        grants.grant(migrated_dsn, role)
        states.append(admin.value(acls))
    admin.execute("; ".join(grants.statements(migrated_dsn, role)))
    assert states[1:] == states[:-1] == [admin.value(acls)] * 2


@pytest.mark.plain("has one database for the owner to own")
def test_an_owner_that_is_not_a_superuser_can_run_it_beside_things_of_others(
    migrated_dsn: Dsn, admin: Admin, role: str
) -> None:
    """As on Neon, where extensions belong to another role."""
    owner, database = f"{role}_group", f"DATABASE {migrated_dsn.database}"
    with_owner = Dsn(migrated_dsn.parameters | {"user": owner})
    for table in ("tasks", "users", "alembic_version"):
        admin.execute(f"ALTER TABLE {table} OWNER TO {owner}")
    for function in rights.FUNCTIONS:
        admin.execute(f"ALTER FUNCTION {function} OWNER TO {owner}")
    admin.execute(f"ALTER ROLE {owner} LOGIN; ALTER {database} OWNER TO {owner}")
    admin.execute(f"CREATE TABLE others (); GRANT SELECT ON others TO {role}")
    admin.execute("CREATE FUNCTION others() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    admin.execute("REVOKE ALL ON FUNCTION others FROM PUBLIC")

    assert grants.grant(with_owner, role) == ["SELECT on others"]
    assert not fails(migrated_dsn, role)
    admin.execute(f"ALTER {database} OWNER TO current_user; REVOKE CONNECT ON {database} FROM {role}")
    admin.execute(f"GRANT CONNECT ON {database} TO {owner}; GRANT USAGE ON SCHEMA public TO {owner} WITH GRANT OPTION")
    with pytest.raises(GrantError, match=f"Nothing was changed.*CONNECT on database {migrated_dsn.database}"):
        grants.grant(with_owner, role)
    admin.execute(f"ALTER FUNCTION folded OWNER TO current_user; REVOKE ALL ON FUNCTION folded FROM {role}, {owner}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="folded"):
        grants.grant(with_owner, role)


def test_it_refuses_a_role_that_it_cannot_make_small(
    migrated_dsn: Dsn, empty_dsn: Dsn, admin: Admin, role: str
) -> None:
    def refusal(dsn: Dsn, name: str) -> str:
        with pytest.raises(GrantError) as refused:
            grants.grant(dsn, name)
        return str(refused.value)

    name = 'x"; DROP TABLE tasks; --%s'
    assert """CREATE ROLE "x""; DROP TABLE tasks; --%s" LOGIN PASSWORD '...';""" in refusal(migrated_dsn, name)
    assert "no such role" in refusal(migrated_dsn, "public")
    assert "is a superuser" in refusal(migrated_dsn, migrated_dsn.parameters["user"])
    assert "migrate_sql" in refusal(empty_dsn, role)
    admin.execute(f"ALTER TABLE tasks OWNER TO {role}_group")
    assert "the owner of the tables" in refusal(migrated_dsn, f"{role}_group")
    admin.execute(f"GRANT {role}_group TO {role}")
    assert "or a member of it" in refusal(migrated_dsn, role)


def test_any_name_of_a_role_is_quoted(migrated_dsn: Dsn, admin: Admin) -> None:
    name = f"x\"; DROP TABLE tasks; --%s' {uuid4().hex[:8]}"
    quoted = sql.Identifier(name).as_string(None)
    admin.execute(f"CREATE ROLE {quoted} LOGIN")
    try:
        grants.grant(migrated_dsn, name)
        assert not fails(migrated_dsn, name)
    finally:
        admin.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")
