"""Normalize text, and validate its rules.

Titles, descriptions and tags that are not in the normal form NFC become so, and tags of a task that become equal are
one (D45). A text that would grow over its limit stays. Each task is committed by itself, so that none is locked for
longer than a write takes, and nothing locks the table. Both parts can be run again after a failure.

What older code writes from here on stays as it is until it is written again: a search in NFC does not find it. The way
back leaves the text in NFC, which is the same text by definition.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_CHANGED = [
    ("tasks", "title_trimmed", r"""title COLLATE "C" !~ '^\s|\s$'"""),
    ("users", "email_lower_case", 'email = lower(email COLLATE "C")'),
    ("users", "email_form", r"""email COLLATE "C" ~ '^[^@\s]+@[^@\s]+$'"""),
]


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # No task waits for the disk; the last commit of the migration does, and with it all before it.
        op.execute("SET synchronous_commit = off")
        op.execute("""
            DO $$
            DECLARE
                task record;
            BEGIN
                FOR task IN
                    SELECT user_id, id, version, new.*
                    FROM tasks CROSS JOIN LATERAL (
                        SELECT
                            CASE WHEN char_length(normalize(title, NFC)) <= 200 THEN normalize(title, NFC)
                                 ELSE title END AS new_title,
                            CASE WHEN char_length(normalize(description, NFC)) <= 1000 THEN normalize(description, NFC)
                                 ELSE description END AS new_description,
                            ARRAY(
                                SELECT CASE WHEN char_length(normalize(tag, NFC)) <= 10 THEN normalize(tag, NFC)
                                            ELSE tag END
                                FROM unnest(tags) WITH ORDINALITY AS old (tag, place)
                                GROUP BY 1 ORDER BY min(place)
                            ) AS new_tags
                    ) AS new
                    WHERE (title IS NOT NFC NORMALIZED OR coalesce(description, '') IS NOT NFC NORMALIZED
                           OR array_to_string(tags, ',') IS NOT NFC NORMALIZED)
                        AND (title, description, tags) IS DISTINCT FROM (new_title, new_description, new_tags)
                LOOP
                    UPDATE tasks
                    SET title = task.new_title, description = task.new_description, tags = task.new_tags,
                        version = version + 1, updated_at = greatest(now(), updated_at + interval '1 microsecond')
                    WHERE user_id = task.user_id AND id = task.id AND version = task.version;
                    COMMIT;
                END LOOP;
            END
            $$
        """)
        op.execute("RESET synchronous_commit")
    for table, name, _ in _CHANGED:
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{name}")


def downgrade() -> None:
    # PostgreSQL cannot take back a validation alone.
    for table, name, rule in _CHANGED:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{name} CHECK ({rule}) NOT VALID")
