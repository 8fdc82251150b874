"""The rights that the server's role needs and has to have no others of (D46): what is missing, and what is too much.

`persistence/grants.py` gives them to a role. No sequence and no type is among them: the ids are made here, and
PostgreSQL asks for no right to the type of a column.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from persistence.postgres.statement import Statement
from persistence.tasks import VALUES


@dataclass(frozen=True)
class Right:
    """A right to a table, or to these columns of it."""

    privilege: str
    table: str
    columns: tuple[str, ...] = ()


RIGHTS = (
    Right("SELECT", "tasks"),
    # The times are those of imported tasks.
    Right(
        "INSERT",
        "tasks",
        ("id", "user_id", *VALUES, "created_at", "updated_at", "completed_at", "version", "deleted_at"),
    ),
    # Not `user_id`, so that no task can be moved to another owner. A create that is repeated sets `id` to what it is.
    Right(
        "UPDATE",
        "tasks",
        ("id", *VALUES, "completed_at", "updated_at", "version", "deleted_at", "is_erased", "applied_keys"),
    ),
    Right("DELETE", "tasks"),
    # Not the address, the name and the hash of the password.
    Right("SELECT", "users", ("id", "is_erased", "created_at", "updated_at", "revision", "horizon")),
    Right("INSERT", "users", ("id", "is_active", "is_erased")),
    Right("UPDATE", "users", ("revision", "horizon")),
    Right("DELETE", "users"),
    Right("SELECT", "alembic_version"),
)
"""What the statements of the server need, and that of `purge`, which runs every day without an operator."""
FUNCTIONS = ("folded(text)", "tag_keys(uuid, text[])", "valid_tags(text[])")
"""What these statements call, and the constraints and indexes of what they write."""

SPREAD_DEFAULTS = """
SELECT attrelid AS id, attname AS part FROM pg_attribute WHERE atthasdef AND attrelid IN (
    SELECT tgrelid FROM pg_trigger WHERE tgrelid IN (to_regclass('tasks'), to_regclass('users'))
    AND tgfoid = to_regproc('pg_catalog.citus_truncate_trigger')
)
"""
"""The columns of spread tables that have a default: none on plain PostgreSQL.

Citus names them all when it hands an INSERT on, so there the server's role needs the right to them, too. It has given
a trigger to each table that it knows, which is how any role can tell on any server.
"""
LACKING_DEFAULTS = """SELECT format('GRANT INSERT (%s) ON %s TO %s', string_agg(quote_ident(attname), ', '),
    attrelid::regclass, grantee::regrole)
FROM pg_attribute JOIN (
    SELECT DISTINCT attrelid, grantee FROM pg_attribute, aclexplode(attacl)
    WHERE attrelid IN ('tasks'::regclass, 'users'::regclass) AND privilege_type = 'INSERT' AND grantee <> 0
) AS inserting USING (attrelid)
WHERE atthasdef AND NOT has_column_privilege(grantee, attrelid, attnum, 'INSERT') GROUP BY attrelid, grantee"""
"""The query for the GRANTs that roles lack which may insert some columns, as long as the tables are not spread yet."""

CURRENT_USER = sql.SQL("current_user")

_NEEDED = sql.SQL(", ").join(
    sql.SQL("({}, {}, {})").format(right.table, right.privilege, column)
    for right in RIGHTS
    for column in right.columns or (None,)
)
_FUNCTIONS = sql.SQL(", ").join(sql.SQL("({})").format(function) for function in FUNCTIONS)
# A column that is not there yet is what the statements complain about.
_MISSING = sql.SQL("""
(SELECT privilege || coalesce(' (' || string_agg(quote_ident(part), ', ' ORDER BY attnum) || ')', '') || ' on ' || name
    AS right
FROM (VALUES {needed}) AS needed (name, privilege, part)
LEFT JOIN pg_attribute ON attrelid = to_regclass(name) AND attname = part
WHERE CASE WHEN part IS NULL THEN NOT has_table_privilege({role}, to_regclass(name), privilege)
      ELSE NOT has_column_privilege({role}, attrelid, attnum, privilege) END
GROUP BY name, privilege, part IS NULL ORDER BY name, privilege)
UNION ALL
SELECT 'INSERT (' || string_agg(quote_ident(part), ', ' ORDER BY part) || ') on ' || id::regclass
FROM ({defaults}) AS defaults WHERE NOT has_column_privilege({role}, id, part, 'INSERT') GROUP BY id
UNION ALL
SELECT 'EXECUTE on function ' || name FROM (VALUES {functions}) AS needed (name)
WHERE NOT has_function_privilege({role}, to_regprocedure(name), 'EXECUTE')
UNION ALL
SELECT 'USAGE on schema ' || relnamespace::regnamespace FROM pg_class
WHERE oid = to_regclass('tasks') AND NOT has_schema_privilege({role}, relnamespace, 'USAGE')
UNION ALL
SELECT 'CONNECT on database ' || quote_ident(current_database())
WHERE NOT has_database_privilege({role}, current_database(), 'CONNECT')
""")

THINGS = sql.SQL("""
    SELECT 'DATABASE' AS kind, oid AS id, quote_ident(datname) AS name, NULL AS part, datdba AS owner,
        coalesce(datacl, acldefault('d', datdba)) AS acl
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'SCHEMA', oid, oid::regnamespace::text, NULL, nspowner, nspacl FROM pg_namespace
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid, oid::regclass::text, NULL, relowner, relacl
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'TABLE', pg_class.oid, attrelid::regclass::text, attname, relowner, attacl
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attacl IS NOT NULL
    UNION ALL
    SELECT 'ROUTINE', oid, oid::regprocedure::text, NULL, proowner, proacl FROM pg_proc
    UNION ALL
    SELECT CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
        WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' WHEN 'L' THEN 'LARGE OBJECTS' END,
        0, coalesce('in schema ' || nullif(defaclnamespace, 0)::regnamespace, ''), NULL, defaclrole, defaclacl
    FROM pg_default_acl
""")
"""All in this database that roles have rights to. `part` is a column; a kind in the plural is what is made later."""

# All roles may call all functions, and use what PostgreSQL and its extensions bring, unless somebody has changed that.
# Of a role that comes with PostgreSQL the membership is named, instead of all that it may do.
_GRANTED = sql.SQL("""
WITH things AS ({things}),
reached AS (
    SELECT other.*, CASE WHEN other.oid = this.oid THEN '' ELSE ' (as ' || other.oid::regrole || ')' END AS via
    FROM pg_roles AS this JOIN pg_roles AS other
    ON other.oid = this.oid OR NOT this.rolsuper AND pg_has_role(this.oid, other.oid, 'MEMBER')
    WHERE this.rolname = {role}
),
grantees (grantee, via) AS (
    SELECT oid, via FROM reached WHERE rolname !~ '^pg_' UNION ALL SELECT 0, ' (granted to PUBLIC)'
)
SELECT 'ROLE' AS kind, '' AS name, NULL AS part, attribute AS privilege, via FROM reached, LATERAL (VALUES
    (rolsuper, 'SUPERUSER'), (rolcreaterole, 'CREATEROLE'), (rolcreatedb, 'CREATEDB'),
    (rolreplication, 'REPLICATION'), (rolbypassrls, 'BYPASSRLS')
) AS attributes (is_set, attribute) WHERE is_set AND (attribute = 'SUPERUSER' OR NOT rolsuper)
UNION ALL
SELECT 'ROLE', rolname, NULL, 'MEMBER', '' FROM reached WHERE rolname ~ '^pg_' AND rolname <> 'pg_database_owner'
UNION ALL
SELECT kind, name, NULL, 'OWNER', '' FROM things
WHERE id > 0 AND part IS NULL AND pg_has_role({role}, owner, 'MEMBER')
AND NOT EXISTS (SELECT FROM reached WHERE rolsuper)
UNION ALL
SELECT kind, name, part, privilege_type, via FROM things, aclexplode(acl) JOIN grantees USING (grantee)
WHERE NOT pg_has_role({role}, owner, 'MEMBER') AND (kind <> 'SCHEMA' OR privilege_type = 'CREATE')
AND NOT (grantee = 0 AND (kind = 'ROUTINE' OR kind IN ('TABLE', 'SEQUENCE') AND (id < 16384 OR EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = id AND deptype = 'e'
))))
AND NOT (kind = 'TABLE' AND privilege_type = 'INSERT' AND (id, part) IN ({defaults}))
ORDER BY kind, name, privilege, part
""")


def missing(role: sql.Composable = CURRENT_USER) -> Statement:
    """The query for what a role lacks, in words such as `INSERT (title) on tasks`."""
    return _statement(_MISSING, role, "missing")


def granted(role: sql.Composable = CURRENT_USER) -> Statement:
    """The query for what a role has by itself, as a member of others, and because all have it; for `excess`."""
    return _statement(_GRANTED, role, "kind", "name", "part", "privilege", "via")


def excess(granted: Iterable[Mapping[str, Any]]) -> list[str]:
    """The part of it that the server does not need, in words."""
    needed = {("TABLE", right.table, part, right.privilege) for right in RIGHTS for part in right.columns or (None,)}
    needed |= {("ROUTINE", name.replace(" ", ""), None, "EXECUTE") for name in FUNCTIONS}
    of_role, owned, found = list[str](), list[str](), dict[str, list[str]]()
    for row in granted:
        kind, name, part, privilege, via = (row[key] for key in ("kind", "name", "part", "privilege", "via"))
        label = name if kind == "TABLE" else f"{'future ' * kind.endswith('S')}{kind.lower()} {name.strip()}"
        if kind == "ROLE":
            of_role.append(f"membership in {name}" if privilege == "MEMBER" else privilege + via)
        elif privilege == "OWNER":
            owned.append(label)
        elif (kind, name, part, privilege) not in needed and (kind, privilege) != ("DATABASE", "CONNECT"):
            found.setdefault(f"{label.strip()}{via}", []).append(f"{privilege} ({part})" if part else privilege)
    if owned:
        of_role.append(f"ownership of {', '.join(owned)}")
    return of_role + [f"{', '.join(privileges)} on {label}" for label, privileges in found.items()]


def _statement(query: sql.SQL, role: sql.Composable, *columns: str) -> Statement:
    parts = {"needed": _NEEDED, "functions": _FUNCTIONS, "things": THINGS, "defaults": sql.SQL(SPREAD_DEFAULTS)}
    text = query.format(role=role, **parts).as_string(None)
    return Statement.script("rights", text, columns=columns)
