"""Keeps addresses of users unique where no constraint can: in a database that is spread over nodes.

A constraint of a spread table has to include the column that the rows are spread by, which is the id
(docs/adr/0037-citus.md). So there the writers of addresses keep each other out, and look on all nodes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from persistence.postgres.database import Database

_LOCK = b"SELECT FROM alembic_version FOR UPDATE"
"""Citus takes this lock on one node for all of them, as each node has a copy of the table. An advisory lock counts on
its own node only."""


@asynccontextmanager
async def alone(database: Database) -> AsyncIterator[None]:
    """Keeps all other blocks of this kind out, on all nodes, and on plain PostgreSQL as well. Takes one connection.

    What the block writes has to be committed inside, on another connection: the commit of a transaction over several
    nodes gives up its locks on one node while another still commits, and the next block would not see the rows there.
    """
    async with database.connection() as connection:
        await connection.execute(_LOCK)
        yield
