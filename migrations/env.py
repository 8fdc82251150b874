"""Alembic's way to run migrations: one process at a time, each whole or not at all, with short waits for tables.

`persistence.migrator` hands over the connection, or nothing when the SQL is only printed; the `alembic` command finds
the database in the settings.
"""

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlmodel import SQLModel

from persistence import (
    history,
    migrator,
    models,  # noqa: F401 - the import fills SQLModel.metadata (S3-FR-040)
)

config = context.config


def refuse_autogenerate(*_: object) -> None:
    """Autogenerate sees no CHECK constraints, functions and safe orders: migrations are written by hand (S3-FR-011)."""
    if getattr(config.cmd_opts, "autogenerate", False):
        raise CommandError('autogenerate is off; `manage.py migrate_sql --new "describe it"` writes an empty migration')


def run(connection: Connection | None) -> None:
    """Runs the migrations on a connection, or prints their SQL without one."""
    context.configure(
        connection=connection,
        dialect_name="postgresql",
        literal_binds=connection is None,
        output_buffer=config.output_buffer,
        target_metadata=SQLModel.metadata,
        process_revision_directives=refuse_autogenerate,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run(None)
elif connection := config.attributes.get("connection"):
    run(connection)
else:
    # The `alembic` command came here by itself, so the settings say where the database is.
    from config.env import env

    try:
        history.revisions()
        with (
            env.database_location_direct.running() as dsn,
            migrator.locked_connection(dsn, env.database_connect_timeout) as connection,
        ):
            run(connection)
    except history.MigrationError as error:
        # Alembic prints this one in a line.
        raise CommandError(str(error)) from error
