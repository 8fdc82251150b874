"""Make the id of a user and its mark unique together.

The foreign key of 0011 needs it. It blocks no writes.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # CONCURRENTLY waits for older transactions, which blocks no other session.
        op.execute("SET lock_timeout = 0")
        # A failed attempt leaves an invalid index behind.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS uq_users_id_is_erased")
        op.execute("CREATE UNIQUE INDEX CONCURRENTLY uq_users_id_is_erased ON users (id, is_erased)")


def downgrade() -> None:
    op.execute("DROP INDEX uq_users_id_is_erased")
