"""Add tasks.version.

It changes with every write to a task, so that a client can refuse to overwrite what it has not seen. It starts at the
time of the migration and not at 1, so that a task that is deleted and made again with the same id has no version twice.
The default is the same for all rows of one statement, so the column appears without rewriting the table.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE tasks ADD COLUMN version bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000000)::bigint"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE tasks DROP COLUMN version")
