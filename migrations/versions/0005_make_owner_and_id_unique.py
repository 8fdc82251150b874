"""Make the owner and the id of a task unique together.

The first of two migrations to the key (user_id, id) (D38). It blocks no writes. Code from before it goes on working,
and code that needs the new key works from here on. Apply 0006 when no server runs the older code any more.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # CONCURRENTLY waits for older transactions, which blocks no other session.
        op.execute("SET lock_timeout = 0")
        # A failed attempt leaves an invalid index behind.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_tasks_user_id_id")
        op.execute("CREATE UNIQUE INDEX CONCURRENTLY uq_tasks_user_id_id ON tasks (user_id, id)")


def downgrade() -> None:
    op.execute("DROP INDEX uq_tasks_user_id_id")
