"""Fold text by rules of its own.

Case and space were what the locale of the database said, so that a search found more in one database than in another
(D45). `folded` is for searches and orders. The constraints see ASCII from here on; what they let in before, they let in
now. The changed ones are validated in 0008.

The way back reads both tables while nothing can use them, and fails whole where a row breaks a rule of the locale.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        DO $$
        DECLARE
            rules text := (
                SELECT quote_ident(min(collname::text COLLATE "C")) FROM pg_collation
                WHERE collname IN ('pg_unicode_fast', 'und-x-icu') AND collnamespace = 'pg_catalog'::regnamespace
            );
        BEGIN
            IF rules IS NULL THEN
                RAISE EXCEPTION
                    'text cannot be folded here: use PostgreSQL 18 or newer, or a 16 or 17 that is built with ICU';
            END IF;
            EXECUTE 'CREATE FUNCTION folded(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE'
                || ' RETURN upper(lower(value COLLATE ' || rules || ') COLLATE ' || rules || ')';
        END
        $$
    """)
    # In its place, as the rule lets in all that the old one did.
    op.execute(r"""
        CREATE OR REPLACE FUNCTION valid_tags(tags text[]) RETURNS boolean
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN (
            SELECT coalesce(bool_and(tag IS NOT NULL AND char_length(tag) BETWEEN 1 AND 10
                                     AND tag = lower(tag COLLATE "C") AND tag COLLATE "C" !~ '^\s|\s$'), true)
                   AND count(DISTINCT tag COLLATE "C") = count(*)
                   AND coalesce(array_ndims(tags), 1) = 1
            FROM unnest(tags) AS tag
        )
    """)
    _replace("tasks", "title_trimmed", r"""title COLLATE "C" !~ '^\s|\s$'""", "NOT VALID")
    _replace("users", "email_lower_case", 'email = lower(email COLLATE "C")', "NOT VALID")
    _replace("users", "email_form", r"""email COLLATE "C" ~ '^[^@\s]+@[^@\s]+$'""", "NOT VALID")


def downgrade() -> None:
    _replace("users", "email_form", r"email ~ '^[^@\s]+@[^@\s]+$'")
    _replace("users", "email_lower_case", "email = lower(email)")
    _replace("tasks", "title_trimmed", r"title !~ '^\s|\s$'")
    op.execute(r"""
        CREATE OR REPLACE FUNCTION valid_tags(tags text[]) RETURNS boolean
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN (
            SELECT coalesce(bool_and(tag IS NOT NULL AND char_length(tag) BETWEEN 1 AND 10
                                     AND tag = lower(tag) AND tag !~ '^\s|\s$'), true)
                   AND count(DISTINCT tag) = count(*)
                   AND coalesce(array_ndims(tags), 1) = 1
            FROM unnest(tags) AS tag
        )
    """)
    op.execute("DROP FUNCTION folded(text)")


def _replace(table: str, name: str, rule: str, validity: str = "") -> None:
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{name} CHECK ({rule}) {validity}")
