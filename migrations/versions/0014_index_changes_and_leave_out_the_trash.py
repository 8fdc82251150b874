"""Index changes, and leave the trash out of the indexes of lists.

It blocks no writes. The indexes of older code stay beside the new ones until 0016, under the names `..._all`, so each
write takes longer between the two. An attempt that failed can be repeated.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_LIVE = "WHERE deleted_at IS NULL"
_LISTS = {
    "ix_tasks_newest": f"(user_id, created_at DESC, id DESC) {_LIVE}",
    "ix_tasks_status": f"(user_id, status, created_at DESC, id DESC) {_LIVE}",
    "ix_tasks_priority": f"(user_id, priority, created_at DESC, id DESC) {_LIVE}",
    "ix_tasks_due_date": f"(user_id, due_date, id) {_LIVE}",
    "ix_tasks_tags": "USING gin (tag_keys(user_id, tags)) WITH (gin_pending_list_limit = 64)"
    f" {_LIVE} AND tags <> '{{}}'",
}
_NEW = _LISTS | {
    "ix_tasks_changes": "(user_id, version, id)",
    "ix_tasks_trash": "(user_id, is_erased, deleted_at DESC, id DESC) WHERE deleted_at IS NOT NULL",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # CONCURRENTLY waits for older transactions, which blocks no other session.
        op.execute("SET lock_timeout = 0")
        for name in _LISTS:
            op.execute(f"""
                DO $$
                BEGIN
                    IF to_regclass('{name}_all') IS NULL THEN
                        ALTER INDEX {name} RENAME TO {name}_all;
                    END IF;
                END
                $$
            """)
        for name, definition in _NEW.items():
            # A failed attempt leaves an invalid index behind.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON tasks {definition}")


def downgrade() -> None:
    for name in _NEW:
        op.execute(f"DROP INDEX {name}")
    for name in _LISTS:
        op.execute(f"ALTER INDEX {name}_all RENAME TO {name}")
