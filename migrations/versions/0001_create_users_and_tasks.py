"""Create users and tasks.

The tables with every rule about their data (D1-D9), and the index without which deleting a user or listing their tasks
would read the whole table.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(r"""
        CREATE FUNCTION valid_tags(tags text[]) RETURNS boolean
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN (
            SELECT coalesce(bool_and(tag IS NOT NULL AND char_length(tag) BETWEEN 1 AND 10
                                     AND tag = lower(tag) AND tag !~ '^\s|\s$'), true)
                   AND count(DISTINCT tag) = count(*)
                   AND coalesce(array_ndims(tags), 1) = 1
            FROM unnest(tags) AS tag
        )
    """)
    op.execute("CREATE TYPE task_status AS ENUM ('pending', 'completed')")
    op.execute("CREATE TYPE task_priority AS ENUM ('low', 'medium', 'high')")
    op.execute(r"""
        CREATE TABLE users (
            id uuid NOT NULL,
            email text NOT NULL,
            password_hash text NOT NULL DEFAULT '!',
            name text,
            is_active boolean NOT NULL DEFAULT true,
            email_verified boolean NOT NULL DEFAULT false,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_users PRIMARY KEY (id),
            CONSTRAINT uq_users_email UNIQUE (email),
            CONSTRAINT ck_users_email_lower_case CHECK (email = lower(email)),
            CONSTRAINT ck_users_email_form CHECK (email ~ '^[^@\s]+@[^@\s]+$'),
            CONSTRAINT ck_users_email_length CHECK (char_length(email) <= 254),
            CONSTRAINT ck_users_password_hash_not_empty CHECK (password_hash <> '')
        )
    """)
    op.execute(r"""
        CREATE TABLE tasks (
            id uuid NOT NULL,
            user_id uuid NOT NULL,
            title text NOT NULL,
            description text,
            status task_status NOT NULL DEFAULT 'pending',
            priority task_priority NOT NULL DEFAULT 'medium',
            due_date timestamptz,
            tags text[] NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            completed_at timestamptz,
            CONSTRAINT pk_tasks PRIMARY KEY (id),
            CONSTRAINT fk_tasks_user_id_users FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
            CONSTRAINT ck_tasks_title_length CHECK (char_length(title) BETWEEN 1 AND 200),
            CONSTRAINT ck_tasks_title_trimmed CHECK (title !~ '^\s|\s$'),
            CONSTRAINT ck_tasks_description_length CHECK (char_length(description) <= 1000),
            CONSTRAINT ck_tasks_completed_at_says_when CHECK ((status = 'completed') = (completed_at IS NOT NULL)),
            CONSTRAINT ck_tasks_due_date_range
                CHECK (due_date BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 23:59:59.999999Z'),
            CONSTRAINT ck_tasks_tags_count CHECK (cardinality(tags) <= 20),
            CONSTRAINT ck_tasks_tags_valid CHECK (tags = '{}' OR valid_tags(tags))
        )
    """)
    op.execute("CREATE INDEX ix_tasks_newest ON tasks (user_id, created_at DESC, id DESC)")


def downgrade() -> None:
    op.execute("DROP TABLE tasks")
    op.execute("DROP TABLE users")
    op.execute("DROP TYPE task_priority")
    op.execute("DROP TYPE task_status")
    op.execute("DROP FUNCTION valid_tags(text[])")
