"""Tie tasks to users that are not erased.

The foreign key names the mark as well (D36). What was there before meets it, as the older one held and no user was
erased, so that nothing is read; 0012 validates it all the same.

The way back reads both tables while nothing can write to them.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The tasks first, as a create locks them in this order.
    op.execute("ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id_users")
    op.execute("ALTER TABLE users ADD CONSTRAINT uq_users_id_is_erased UNIQUE USING INDEX uq_users_id_is_erased")
    op.execute("""
        ALTER TABLE tasks ADD CONSTRAINT fk_tasks_user_id_owner_is_erased_users
        FOREIGN KEY (user_id, owner_is_erased) REFERENCES users (id, is_erased) ON DELETE CASCADE NOT VALID
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id_owner_is_erased_users")
    op.execute("""
        ALTER TABLE tasks ADD CONSTRAINT fk_tasks_user_id_users
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
    """)
    op.execute("ALTER TABLE users DROP CONSTRAINT uq_users_id_is_erased")
    op.execute("CREATE UNIQUE INDEX uq_users_id_is_erased ON users (id, is_erased)")
