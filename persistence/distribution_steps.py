"""The steps that spread a database, and what has to be there before, as SQL; `persistence/distribution.py` runs it."""

from dataclasses import dataclass

from persistence.rights import FUNCTIONS, LACKING_DEFAULTS

_FOREIGN_KEY = "fk_tasks_user_id_owner_is_erased_users"


def _has(constraint: str, table: str) -> str:
    return f"EXISTS (SELECT FROM pg_constraint WHERE conname = '{constraint}' AND conrelid = '{table}'::regclass)"


def _is_known(table: str) -> str:
    return f"EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass)"


def _is_spread(table: str, method: str = "h") -> str:
    # A table that is known to Citus with another method is not spread yet, or waits for the rest of a step that failed.
    return (
        f"EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass AND partmethod = '{method}')"
    )


def _is_on_all_nodes(function: str) -> str:
    return f"EXISTS (SELECT FROM pg_dist_object WHERE objid = to_regprocedure('{function}'))"


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
        # Those that rules and indexes call would come with their table, and those of statements alone would not.
        "Copy functions to all nodes",
        " AND ".join(map(_is_on_all_nodes, FUNCTIONS)),
        tuple(f"SELECT create_distributed_function('{function}')" for function in FUNCTIONS),
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
    # From here on until they are tied again, a task may be made whose user goes at the same moment.
    Step(
        "Untie tasks from users",
        f"{_is_spread('users')} OR NOT {_has(_FOREIGN_KEY, 'tasks')}",
        (f"ALTER TABLE tasks DROP CONSTRAINT {_FOREIGN_KEY}",),
    ),
    Step(
        # Else Citus refuses statements that name both tables, while the next step copies the tasks.
        "Make users known to Citus",
        _is_known("users"),
        ("SELECT citus_add_local_table_to_metadata('users')",),
    ),
    Step(
        "Spread tasks by owner",
        _is_spread("tasks"),
        ("SELECT create_distributed_table_concurrently('tasks', 'user_id')",),
        is_whole=False,
    ),
    Step(
        # By itself, as it keeps out reads as well, which the next step does not.
        "Keep addresses unique by a lock instead of a rule",
        f"NOT {_has('uq_users_email', 'users')}",
        ("ALTER TABLE users DROP CONSTRAINT uq_users_email",),
    ),
    Step(
        "Spread users, beside their tasks",
        _is_spread("users"),
        ("SELECT create_distributed_table('users', 'id', colocate_with := 'tasks')",),
    ),
    Step(
        "Remove the rows that are left on the coordinator",
        f"{_is_spread('users')} AND pg_relation_size('users') + pg_relation_size('alembic_version') = 0",
        tuple(
            f"SELECT truncate_local_data_after_distributing_table('{name}')" for name in ("users", "alembic_version")
        ),
    ),
    Step(
        "Tie tasks to users again",
        f"{_is_spread('users')} AND {_has(_FOREIGN_KEY, 'tasks')}",
        (
            (
                f"ALTER TABLE tasks ADD CONSTRAINT {_FOREIGN_KEY} FOREIGN KEY (user_id, owner_is_erased)"
                " REFERENCES users (id, is_erased) ON DELETE CASCADE NOT VALID"
            ),
        ),
    ),
    Step(
        "Delete tasks whose user has gone meanwhile, and validate that each other has its user",
        f"{_is_spread('users')} AND EXISTS (SELECT FROM pg_constraint"
        f" WHERE conname = '{_FOREIGN_KEY}' AND conrelid = 'tasks'::regclass AND convalidated)",
        (
            (
                "DELETE FROM tasks WHERE NOT EXISTS (SELECT FROM users"
                " WHERE users.id = tasks.user_id AND users.is_erased = tasks.owner_is_erased)"
            ),
            f"ALTER TABLE tasks VALIDATE CONSTRAINT {_FOREIGN_KEY}",
        ),
        is_whole=False,
    ),
)

NOT_THE_COORDINATOR = (
    "SELECT CASE WHEN EXISTS (SELECT FROM pg_dist_node)"
    " THEN 'This is not the coordinator: set DATABASE_URL_DIRECT to its URL.'"
    " ELSE 'Citus knows no nodes yet: run SELECT citus_set_coordinator_host(host, port), and for each worker"
    " SELECT citus_add_node(host, port) (docs/scaling.md, From one machine to several).' END"
    " WHERE NOT citus_is_coordinator()"
)
"""Gives a line if the server that is asked cannot lead the others."""
FAULTS = (
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
        "SELECT CASE WHEN NOT success THEN format('%s:%s does not answer: %s. Start it, and run this again.',"
        " nodename, nodeport, rtrim(split_part(result, E'\\n', 1), '.'))"
        " WHEN result <> 'logical' THEN"
        " format('%s:%s has wal_level = %s: set it to logical, and restart the node.', nodename, nodeport, result) END"
        " FROM run_command_on_all_nodes($$SHOW wal_level$$) JOIN pg_dist_node USING (nodeid)"
        " WHERE NOT success OR result <> 'logical'"
    ),
    (
        "SELECT format(CASE WHEN success THEN '%s:%s: output_plugin_libraries lacks citus. Add it, and reload.' ELSE"
        " '%s:%s keeps output_plugin_libraries from you: GRANT pg_read_all_settings TO ' || current_user || '.' END,"
        " nodename, nodeport)"
        " FROM run_command_on_all_nodes($$SELECT coalesce('citus' = ANY (regexp_split_to_array("
        "current_setting('output_plugin_libraries', true), ' *, *')), true)$$) JOIN pg_dist_node USING (nodeid)"
        " WHERE result = 'f' OR NOT success AND result LIKE '%output_plugin_libraries%'"
    ),
)
"""Each gives a line for each fault of the nodes and of the role, and how to mend it."""
