"""How Alembic runs the steps: one process at a time, each step whole or not at all, and never waiting long for a table.

`persistence.migrations` hands over the connection, or nothing when the SQL is only printed; the `alembic` command finds
the database in the settings.
"""

from alembic import context
from alembic.util import CommandError
from sqlmodel import SQLModel

from persistence import migrations
from persistence import models as models  # The import fills SQLModel.metadata (S3-FR-040).

config = context.config


def refuse_autogenerate(*_: object) -> None:
    """Steps are written by hand (S3-FR-011): autogenerate does not see CHECK constraints, functions or safe orders."""
    if getattr(config.cmd_opts, "autogenerate", False):
        raise CommandError('autogenerate is off; write an empty step with `manage.py migrate_sql --new "describe it"`')


options = {
    "target_metadata": SQLModel.metadata,
    "process_revision_directives": refuse_autogenerate,
    "transaction_per_migration": True,
    "on_version_apply": config.attributes.get("on_version_apply"),
}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, output_buffer=config.output_buffer, **options)
    with context.begin_transaction():
        context.run_migrations()
elif "connection" in config.attributes:
    context.configure(connection=config.attributes["connection"], **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    # The `alembic` command: the settings know the database.
    from config.env import env

    with env.located_database() as dsn, migrations.locked_connection(dsn) as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
