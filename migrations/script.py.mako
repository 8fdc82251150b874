"""${message}.

Before you ship this migration:

- The old code keeps running while and after it is applied: add first, use later, remove last, in separate releases.
- It waits at most `lock_timeout` for a lock and then fails whole: run it again. Keep short what locks a busy table.
- A new column is nullable or has a constant default. A new CHECK or foreign key is added NOT VALID in one migration and
  validated in the next. A backfill goes in batches, each in a transaction of its own, as in 0008.
- CREATE INDEX blocks writes: on a large table use op.get_context().autocommit_block(), alone in its migration, which is
  not atomic then: SET lock_timeout = 0, DROP INDEX CONCURRENTLY IF EXISTS for what a failed attempt has left, then
  CREATE INDEX CONCURRENTLY.
- It works on a database that is spread over Citus as well: one change in each ALTER TABLE, no trigger, no function such
  as now() beside a column in an UPDATE, and a UNIQUE rule names the owner's id.
- downgrade() loses nothing that an older migration had stored.
- Change persistence/models.py to match: tests/database/test_schema.py compares the two.
"""

from alembic import op

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("write the migration")


def downgrade() -> None:
    op.execute("write the way back")
