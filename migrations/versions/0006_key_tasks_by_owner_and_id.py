"""Key tasks by owner and id.

The second of two migrations (D38): two owners may have tasks with the same id from here on. A server that runs code
from before 0005 cannot create tasks any more.

The way back fails whole while two tasks have the same id.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One change for each command: some engines take no more (docs/adr/0021-key-of-tasks.md).
    op.execute("ALTER TABLE tasks DROP CONSTRAINT pk_tasks")
    op.execute("ALTER TABLE tasks ADD CONSTRAINT pk_tasks PRIMARY KEY USING INDEX uq_tasks_user_id_id")


def downgrade() -> None:
    op.execute("ALTER TABLE tasks DROP CONSTRAINT pk_tasks")
    op.execute("ALTER TABLE tasks ADD CONSTRAINT pk_tasks PRIMARY KEY (id)")
    op.execute("CREATE UNIQUE INDEX uq_tasks_user_id_id ON tasks (user_id, id)")
