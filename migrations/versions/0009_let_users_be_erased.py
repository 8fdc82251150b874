"""Let users have no e-mail, and be erased.

A user that signs in elsewhere has no address here (D35), and one that is erased leaves a mark (D36). Code from before
it goes on working. The rules are validated in 0012.

The way back cannot keep either: a user without an address gets one that leads nowhere, `<id>@no-email.invalid`, and the
marks of erased accounts are removed. It keeps all tasks.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The tasks first, as a create locks them in this order.
    op.execute("ALTER TABLE tasks ADD owner_is_erased boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE tasks ADD CONSTRAINT ck_tasks_owner_not_erased CHECK (NOT owner_is_erased) NOT VALID")
    op.execute("ALTER TABLE users ALTER email DROP NOT NULL")
    op.execute("ALTER TABLE users ADD is_erased boolean NOT NULL DEFAULT false")
    op.execute("""
        ALTER TABLE users ADD CONSTRAINT ck_users_erased_has_no_data CHECK (
            NOT is_erased OR num_nonnulls(email, name) = 0 AND password_hash = '!'
            AND NOT is_active AND NOT email_verified
        ) NOT VALID
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE tasks DROP owner_is_erased")
    op.execute("DELETE FROM users WHERE is_erased")
    op.execute("ALTER TABLE users DROP is_erased")
    op.execute("UPDATE users SET email = id || '@no-email.invalid' WHERE email IS NULL")
    op.execute("ALTER TABLE users ALTER email SET NOT NULL")
