"""Index tasks by what lists ask for.

One index for each column of S3-FR-016 in the shape its queries have, always within one user, and GIN for tags (D12).
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX ix_tasks_status ON tasks (user_id, status, created_at DESC, id DESC)")
    op.execute("CREATE INDEX ix_tasks_priority ON tasks (user_id, priority, created_at DESC, id DESC)")
    op.execute("CREATE INDEX ix_tasks_due_date ON tasks (user_id, due_date, id)")
    op.execute("CREATE INDEX ix_tasks_tags ON tasks USING gin (tags)")


def downgrade() -> None:
    for column in ("tags", "due_date", "priority", "status"):
        op.execute(f"DROP INDEX ix_tasks_{column}")
