"""Validate the rules about what is erased.

It reads both tables and blocks nobody.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_RULES = [
    ("tasks", "ck_tasks_erased_is_deleted", "CHECK (NOT is_erased OR deleted_at IS NOT NULL)"),
    ("users", "ck_users_erased_has_no_data", "CHECK (NOT is_erased OR num_nonnulls(email, name) = 0)"),
]


def upgrade() -> None:
    for table, name, _ in _RULES:
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    # PostgreSQL cannot take back a validation alone.
    for table, name, rule in _RULES:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule} NOT VALID")
