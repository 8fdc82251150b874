"""Validate the rules about erased users.

It reads both tables and blocks nobody.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_OWNER = "FOREIGN KEY (user_id, owner_is_erased) REFERENCES users (id, is_erased) ON DELETE CASCADE"
_NO_DATA = (
    "CHECK (NOT is_erased OR num_nonnulls(email, name) = 0 AND password_hash = '!'"
    " AND NOT is_active AND NOT email_verified)"
)
_RULES = [
    ("tasks", "ck_tasks_owner_not_erased", "CHECK (NOT owner_is_erased)"),
    ("tasks", "fk_tasks_user_id_owner_is_erased_users", _OWNER),
    ("users", "ck_users_erased_has_no_data", _NO_DATA),
]


def upgrade() -> None:
    for table, name, _ in _RULES:
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    # PostgreSQL cannot take back a validation alone.
    for table, name, rule in _RULES:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule} NOT VALID")
