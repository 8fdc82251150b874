"""Add revisions of users, and the trash.

Each write raises the revision of its owner from here on (D39), and a deleted task stays in the trash (D41). Code from
before it goes on working, but raises no revision, deletes for good, and shows what is in the trash: do without the feed
of changes until 0016. The columns appear without rewriting the tables. 0015 validates the rules.

The way back deletes what is in the trash.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The tasks first, as a create of older code locks them in this order.
    op.execute("ALTER TABLE tasks ADD deleted_at timestamptz")
    op.execute("ALTER TABLE tasks ADD is_erased boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE tasks ADD applied_keys bigint[]")
    op.execute(
        "ALTER TABLE tasks ADD CONSTRAINT ck_tasks_erased_is_deleted"
        " CHECK (NOT is_erased OR deleted_at IS NOT NULL) NOT VALID"
    )
    # Each write of a task raises a user from here on, and reads the text of all rules for it, so this one gets short.
    op.execute("ALTER TABLE users DROP CONSTRAINT ck_users_erased_has_no_data")
    op.execute(
        "ALTER TABLE users ADD CONSTRAINT ck_users_erased_has_no_data"
        " CHECK (NOT is_erased OR num_nonnulls(email, name) = 0) NOT VALID"
    )
    # No version of a task is greater than what all users begin with.
    for column in ("revision", "horizon"):
        op.execute(
            f"ALTER TABLE users ADD {column} bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000000)::bigint"
        )


def downgrade() -> None:
    op.execute("DELETE FROM tasks WHERE deleted_at IS NOT NULL")
    for column in ("deleted_at", "is_erased", "applied_keys"):
        op.execute(f"ALTER TABLE tasks DROP {column}")
    for column in ("revision", "horizon"):
        op.execute(f"ALTER TABLE users DROP {column}")
    op.execute("ALTER TABLE users DROP CONSTRAINT ck_users_erased_has_no_data")
    op.execute("""
        ALTER TABLE users ADD CONSTRAINT ck_users_erased_has_no_data CHECK (
            NOT is_erased OR num_nonnulls(email, name) = 0 AND password_hash = '!'
            AND NOT is_active AND NOT email_verified
        )
    """)
