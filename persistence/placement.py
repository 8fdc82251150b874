"""Where an engine that spreads rows by owner has put the tasks of all owners (docs/scaling.md)."""

from contextlib import suppress

import sqlalchemy as sa

from persistence.postgres.database import Database
from persistence.postgres.errors import Unavailable
from persistence.postgres.statement import Statement

IS_SPREAD: sa.Label[bool] = sa.literal_column("to_regclass('pg_catalog.pg_dist_shard') IS NOT NULL").label("is_spread")
"""Tells in SQL if there is such an engine."""

_SHARDS = Statement(
    "shards",
    sa.text("""
        SELECT shardminvalue::integer AS least, nodename || ':' || nodeport AS node
        FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)
        WHERE logicalrelid = to_regclass(:table) AND noderole::text = :role
    """).columns(sa.column("least"), sa.column("node")),
)
_OF_TASKS = {"table": "tasks", "role": "primary"}


async def read(database: Database, timeout: float) -> None:
    """Tells the database where the shards are now; what it knows stays, if it cannot. One round trip to one node."""
    with suppress(Unavailable):
        database.shards.load(await database.rows(_SHARDS, _OF_TASKS, timeout))
