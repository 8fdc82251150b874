"""Validate the rule about erased tasks.

It reads the tasks and blocks nobody.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE tasks VALIDATE CONSTRAINT ck_tasks_erased_has_no_data")


def downgrade() -> None:
    # PostgreSQL cannot take back a validation alone.
    op.execute("ALTER TABLE tasks DROP CONSTRAINT ck_tasks_erased_has_no_data")
    op.execute("""
        ALTER TABLE tasks ADD CONSTRAINT ck_tasks_erased_has_no_data CHECK (
            NOT is_erased OR deleted_at IS NOT NULL AND title = '(erased)' AND tags = '{}' AND status = 'pending'
            AND priority = 'medium' AND num_nonnulls(description, due_date, applied_keys) = 0
        ) NOT VALID
    """)
