"""The steps that spread a database, and what has to be there before, as SQL; `persistence/distribution.py` runs it."""

from dataclasses import dataclass

from persistence.rights import LACKING_DEFAULTS

_FOREIGN_KEY = "fk_tasks_user_id_owner_is_erased_users"
_IS_UNTIED = f"NOT EXISTS (SELECT FROM pg_constraint WHERE conname = '{_FOREIGN_KEY}' AND conrelid = 'tasks'::regclass)"
_REFUSES = "EXISTS (SELECT FROM pg_trigger WHERE tgname = 'refuse_to_erase' AND tgrelid = 'users'::regclass)"


def _is_spread(table: str, method: str = "h") -> str:
    # A table that is known to Citus with another method waits for the rest of a step that failed.
    return (
        f"EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass AND partmethod = '{method}')"
    )


@dataclass(frozen=True)
class Step:
    """A part of the way: the expression in SQL that tells if it is done, and what to run otherwise."""

    description: str
    is_done: str
    statements: tuple[str, ...]
    is_whole: bool = True
    """All in one transaction, with short waits for tables; else each on its own, with waits that hold up nobody."""


STEPS = (
    Step(
        "Let the server's role insert the defaults of columns, which Citus names",
        f"NOT EXISTS ({LACKING_DEFAULTS})",
        (f"DO $$ DECLARE given text; BEGIN FOR given IN {LACKING_DEFAULTS} LOOP EXECUTE given; END LOOP; END $$",),
    ),
    Step(
        "Copy alembic_version to all nodes",
        _is_spread("alembic_version", "n"),
        ("SELECT create_reference_table('alembic_version')",),
    ),
    Step(
        "Index users by e-mail",
        "EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('ix_users_email') AND indisvalid)",
        # A failed attempt leaves an invalid index behind.
        (
            "DROP INDEX CONCURRENTLY IF EXISTS ix_users_email",
            "CREATE INDEX CONCURRENTLY ix_users_email ON users (email)",
        ),
        is_whole=False,
    ),
    Step(
        "Refuse to erase users for the time being, and untie tasks from users",
        f"{_is_spread('users')} OR {_REFUSES} AND {_IS_UNTIED}",
        (
            # Without the foreign key the tasks of a user would stay when the user goes.
            "LOCK TABLE users, tasks IN ACCESS EXCLUSIVE MODE",
            (
                "CREATE OR REPLACE FUNCTION refuse_to_erase() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE 'no user can be erased before `manage.py distribute` has ended' USING ERRCODE = '55000'; END $$"
            ),
            (
                "CREATE OR REPLACE TRIGGER refuse_to_erase BEFORE DELETE ON users"
                " FOR EACH ROW EXECUTE FUNCTION refuse_to_erase()"
            ),
            f"ALTER TABLE tasks DROP CONSTRAINT IF EXISTS {_FOREIGN_KEY}",
        ),
    ),
    Step(
        "Spread tasks by owner",
        _is_spread("tasks"),
        ("SELECT create_distributed_table_concurrently('tasks', 'user_id')",),
        is_whole=False,
    ),
    Step(
        "Spread users, beside their tasks, and tie tasks to them again",
        _is_spread("users"),
        (
            # In the order in which all writes lock them.
            "LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
            "LOCK TABLE tasks IN EXCLUSIVE MODE",
            "DROP FUNCTION refuse_to_erase() CASCADE",
            "ALTER TABLE users DROP CONSTRAINT IF EXISTS uq_users_email",
            "SELECT create_distributed_table('users', 'id', colocate_with := 'tasks')",
            (
                f"ALTER TABLE tasks ADD CONSTRAINT {_FOREIGN_KEY} FOREIGN KEY (user_id, owner_is_erased)"
                " REFERENCES users (id, is_erased) ON DELETE CASCADE NOT VALID"
            ),
        ),
    ),
    Step(
        "Validate that each task has its user",
        f"{_is_spread('users')} AND EXISTS (SELECT FROM pg_constraint"
        f" WHERE conname = '{_FOREIGN_KEY}' AND conrelid = 'tasks'::regclass AND convalidated)",
        (f"ALTER TABLE tasks VALIDATE CONSTRAINT {_FOREIGN_KEY}",),
    ),
    Step(
        "Remove the rows that are left on the coordinator",
        f"{_is_spread('users')} AND pg_relation_size('users') + pg_relation_size('alembic_version') = 0",
        tuple(
            f"SELECT truncate_local_data_after_distributing_table('{name}')" for name in ("users", "alembic_version")
        ),
    ),
)

FAULTS = (
    "SELECT 'This is not the coordinator: set DATABASE_URL_DIRECT to its URL.' WHERE NOT citus_is_coordinator()",
    (
        "SELECT 'You are not the owner of ' || name || ': set DATABASE_URL_DIRECT to a URL of that role.'"
        " FROM unnest(ARRAY['tasks', 'users', 'alembic_version']) AS name JOIN pg_class ON oid = to_regclass(name)"
        " WHERE NOT pg_has_role(relowner, 'USAGE')"
    ),
    (
        "SELECT 'No node takes shards: add workers by citus_add_node(host, port).' WHERE NOT EXISTS"
        " (SELECT FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary')"
    ),
    (
        "SELECT CASE WHEN NOT success THEN format('%s:%s cannot be asked: %s', nodename, nodeport, result)"
        " WHEN result <> 'logical' THEN"
        " format('%s:%s has wal_level = %s: set it to logical, and restart the node.', nodename, nodeport, result) END"
        " FROM run_command_on_all_nodes($$SHOW wal_level$$) JOIN pg_dist_node USING (nodeid)"
        " WHERE NOT success OR result <> 'logical'"
    ),
    (
        "SELECT format('%s:%s: output_plugin_libraries lacks citus. Add it, and reload.', nodename, nodeport)"
        " FROM run_command_on_all_nodes($$SELECT coalesce('citus' = ANY (regexp_split_to_array("
        "current_setting('output_plugin_libraries', true), ' *, *')), true)$$) JOIN pg_dist_node USING (nodeid)"
        " WHERE success AND result = 'f'"
    ),
)
"""Each gives a line for each fault of the nodes and of the role, and how to mend it."""
