"""The schema that the migrations make is the schema that the models declare, to the last CHECK."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from persistence.models import Task
from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner, temporary_database

type Schema = dict[str, str]
"""The definition of each thing in a database, by kind and name, as PostgreSQL itself writes it."""

# Each row is (kind, name, definition). The things of Alembic, of an extension and of PostgreSQL are left out,
# and so is the order of columns: a migration can only add one at the end.
DESCRIBE = """
WITH relation AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relpersistence, c.reloptions
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'alembic\\_version%'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
)
SELECT 'relation', name, concat_ws(' ', relkind, relpersistence, reloptions::text) FROM relation
UNION ALL
SELECT 'column', name || '.' || attname, concat_ws(' ',
    format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN 'NOT NULL' END,
    'DEFAULT ' || pg_get_expr(adbin, adrelid),
    'COLLATE ' || nullif(attcollation, 0)::regcollation::text,
    'IDENTITY ' || nullif(attidentity::text, ''),
    'GENERATED ' || nullif(attgenerated::text, ''))
FROM relation
JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT 'constraint', name || '.' || conname, pg_get_constraintdef(pg_constraint.oid)
FROM relation JOIN pg_constraint ON conrelid = relation.oid
UNION ALL
SELECT 'index', name, pg_get_indexdef(indexrelid) || CASE WHEN indisvalid THEN '' ELSE ' INVALID' END
FROM relation JOIN pg_index ON indexrelid = relation.oid
UNION ALL
SELECT 'trigger', name || '.' || tgname, pg_get_triggerdef(pg_trigger.oid)
FROM relation JOIN pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal
UNION ALL
SELECT 'enum', typname::text, string_agg(enumlabel, ', ' ORDER BY enumsortorder)
FROM pg_type JOIN pg_enum ON enumtypid = pg_type.oid GROUP BY typname
UNION ALL
SELECT 'domain', typname::text, format_type(typbasetype, typtypmod)
FROM pg_type WHERE typtype = 'd' AND typnamespace = 'public'::regnamespace
UNION ALL
SELECT 'function', proc.oid::regprocedure::text, pg_get_functiondef(proc.oid)
FROM pg_proc proc WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = proc.oid AND d.deptype = 'e')
"""


def describe(connection: psycopg.Connection) -> Schema:
    return {f"{kind} {name}": definition for kind, name, definition in connection.execute(DESCRIBE).fetchall()}


def differences(declared: Schema, found: Schema) -> list[str]:
    """One line for each thing that is not the same on both sides, for the message of a failure."""
    names = sorted(declared.keys() | found.keys())
    return [
        f"{name}: declared {declared.get(name, 'nothing')!r}, found {found.get(name, 'nothing')!r}"
        for name in names
        if declared.get(name) != found.get(name)
    ]


@pytest.fixture(scope="module")
def declared(server: Dsn) -> Schema:
    """The schema that `create_all` makes in a database without migrations."""
    with temporary_database(server) as dsn, psycopg.connect(as_owner(dsn).conninfo) as connection:
        engine = create_engine("postgresql+psycopg://", poolclass=StaticPool, creator=lambda: connection)
        Task.metadata.create_all(engine)
        return describe(connection)


@pytest.fixture
def migrated(dsn: Dsn) -> Iterator[psycopg.Connection]:
    """A migrated database that may be altered: the changes of a test are rolled back."""
    with psycopg.connect(as_owner(dsn).conninfo) as connection:
        yield connection
        connection.rollback()


@pytest.mark.plain("has the schema of the models")
def test_it_migrates_to_exactly_what_the_models_declare(declared: Schema, migrated: psycopg.Connection) -> None:
    assert differences(declared, describe(migrated)) == []


def test_it_describes_every_kind_of_thing_that_the_models_have(declared: Schema) -> None:
    kinds = {name.partition(" ")[0] for name in declared}
    tables = {f"relation {table}" for table in Task.metadata.tables}
    assert kinds == {"relation", "column", "constraint", "index", "enum", "function"}
    assert tables == {name for name in declared if declared[name].startswith("r ")}


@pytest.mark.plain("has the schema of the models")
@pytest.mark.parametrize(
    ("alteration", "reported"),
    [
        (("ALTER TABLE tasks DROP CONSTRAINT ck_tasks_title_length, ADD CONSTRAINT ck_tasks_title_length"
         " CHECK (char_length(title) BETWEEN 1 AND 201)"), "constraint tasks.ck_tasks_title_length"),
        (("ALTER TABLE users DROP CONSTRAINT ck_users_email_length, ADD CONSTRAINT ck_users_email_length"
         " CHECK (char_length(email) <= 254) NOT VALID"), "constraint users.ck_users_email_length"),
        ("ALTER TABLE tasks ADD CHECK (title <> 'no')", "constraint tasks.tasks_title_check"),
        ("ALTER TYPE task_priority RENAME VALUE 'low' TO 'lowest'", "enum task_priority"),
        ("UPDATE pg_enum SET enumsortorder = -enumsortorder", "enum task_status"),
        ("ALTER TABLE tasks ALTER priority SET DEFAULT 'low'", "column tasks.priority"),
        ("ALTER TABLE users ALTER is_active DROP DEFAULT", "column users.is_active"),
        ("ALTER TABLE tasks ALTER created_at DROP NOT NULL", "column tasks.created_at"),
        # Other tests have made users without a name.
        ("DELETE FROM users WHERE name IS NULL; ALTER TABLE users ALTER name SET NOT NULL", "column users.name"),
        ("ALTER TABLE tasks ALTER title TYPE varchar(200)", "column tasks.title"),
        ('ALTER TABLE users ALTER email TYPE text COLLATE "C"', "column users.email"),
        ("ALTER TABLE users ADD number bigint GENERATED ALWAYS AS IDENTITY", "column users.number"),
        ("ALTER TABLE tasks DROP due_date", "column tasks.due_date"),
        ("DROP INDEX ix_tasks_newest; CREATE INDEX ix_tasks_newest ON tasks (user_id, created_at, id DESC)",
         "index ix_tasks_newest"),
        ("DROP INDEX ix_tasks_tags; CREATE INDEX ix_tasks_tags ON tasks USING gin (tags) WHERE tags <> '{}'",
         "index ix_tasks_tags"),
        (("ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id_owner_is_erased_users,"
         " ADD CONSTRAINT fk_tasks_user_id_owner_is_erased_users FOREIGN KEY (user_id) REFERENCES users"),
         "constraint tasks.fk_tasks_user_id_owner_is_erased_users"),
        ("ALTER TABLE users DROP CONSTRAINT uq_users_email", "constraint users.uq_users_email"),
        ("ALTER TABLE tasks RENAME CONSTRAINT pk_tasks TO tasks_pkey", "constraint tasks.tasks_pkey"),
        (("CREATE OR REPLACE FUNCTION valid_tags(tags text[]) RETURNS boolean"
         " LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN true"), "function valid_tags(text[])"),
        ("ALTER FUNCTION valid_tags(text[]) STABLE", "function valid_tags(text[])"),
        ("CREATE TABLE notes (id uuid PRIMARY KEY)", "relation notes"),
        ("CREATE VIEW late AS SELECT id FROM tasks WHERE due_date < now()", "relation late"),
        ("CREATE DOMAIN tag AS text", "domain tag"),
        (("CREATE TRIGGER touch BEFORE UPDATE ON tasks FOR EACH ROW"
         " EXECUTE FUNCTION suppress_redundant_updates_trigger()"), "trigger tasks.touch"),
    ],
)  # fmt: skip
def test_it_notices_a_difference(
    declared: Schema, migrated: psycopg.Connection, alteration: str, reported: str
) -> None:
    migrated.execute(alteration.encode())
    assert f"{reported}: " in "\n".join(differences(declared, describe(migrated)))
