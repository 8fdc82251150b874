"""Start all feeds of changes anew, and drop the indexes of older code.

Apply it when no server runs code from before 0013 any more: such code writes tasks without raising the revision of
their owner, and deletes them without a trace. A client whose cursor is from before this gets all tasks once more, so
that it misses none of that for good. The revisions are raised user by user, which blocks nobody for longer than a write
does, and an attempt that failed can be repeated.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_LISTS = {
    "ix_tasks_newest": "(user_id, created_at DESC, id DESC)",
    "ix_tasks_status": "(user_id, status, created_at DESC, id DESC)",
    "ix_tasks_priority": "(user_id, priority, created_at DESC, id DESC)",
    "ix_tasks_due_date": "(user_id, due_date, id)",
    "ix_tasks_tags": "USING gin (tag_keys(user_id, tags)) WITH (gin_pending_list_limit = 64) WHERE tags <> '{}'",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # No user waits for the disk; the last commit of the migration does, and with it all before it.
        op.execute("SET synchronous_commit = off")
        op.execute("""
            DO $$
            DECLARE
                owner uuid;
            BEGIN
                FOR owner IN SELECT id FROM users
                LOOP
                    UPDATE users
                    SET (revision, horizon) = (
                        SELECT new, new
                        FROM greatest(revision + 1, (extract(epoch FROM now()) * 1000000)::bigint) AS new
                    )
                    WHERE id = owner;
                    COMMIT;
                END LOOP;
            END
            $$
        """)
        op.execute("RESET synchronous_commit")
        # CONCURRENTLY waits for older transactions, which blocks no other session.
        op.execute("SET lock_timeout = 0")
        for name in _LISTS:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_all")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        for name, definition in _LISTS.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_all")
            op.execute(f"CREATE INDEX CONCURRENTLY {name}_all ON tasks {definition}")
