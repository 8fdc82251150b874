"""libpq's environment variables, which would fill in whatever `DATABASE_URL` leaves open (D51)."""

import os

_SENT = {"PGCLIENTENCODING": "UTF8", "PGDATESTYLE": "ISO, MDY", "PGTZ": "UTC"}
"""What psycopg's adapters rely on. libpq sends these as start-up parameters, which win over the settings of a database
or a role, and which poolers let through; they refuse `options`."""


def own_environment() -> None:
    """Drops every variable that libpq or PostgreSQL's programs read, and sets those that a connection needs.

    A stray `PGHOSTADDR` would send the password to another machine than the one in the URL.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    os.environ.update(_SENT)
