"""Validate the rule about erased tasks.

It reads the tasks and blocks nobody.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE tasks VALIDATE CONSTRAINT ck_tasks_erased_is_deleted")


def downgrade() -> None:
    # PostgreSQL cannot take back a validation alone.
    op.execute("ALTER TABLE tasks DROP CONSTRAINT ck_tasks_erased_is_deleted")
    op.execute(
        "ALTER TABLE tasks ADD CONSTRAINT ck_tasks_erased_is_deleted"
        " CHECK (NOT is_erased OR deleted_at IS NOT NULL) NOT VALID"
    )
