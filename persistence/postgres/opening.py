"""The opening of a connection to the first address that takes it, with what its pool must know about it."""

import asyncio
import random
from time import monotonic
from traceback import clear_frames

import psycopg

from persistence.postgres.compatibility import require_compatible
from persistence.postgres.connection import Connection
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions
from persistence.postgres.sql_log import LoggingConnection
from persistence.postgres.statement import Statement

APPLICATION_NAME = "todo"
"""The name of our connections in `pg_stat_activity`."""
LIFETIME_JITTER = 0.1
"""Connections expire up to this fraction early, so that those opened together are not all recycled at once."""

_CITUS = Statement.script(
    "citus", "SELECT current_setting('citus.version', true) IS NOT NULL AS has_citus", columns=("has_citus",)
)


async def open_connection(dsn: Dsn, options: DatabaseOptions, connect_timeout: int) -> Connection:
    """A connection in autocommit; each address of each host in the URL has the whole timeout, in seconds.

    Raises psycopg's error of the last address. The look-up of a name has only the time limits of the system's resolver.
    """
    kind = LoggingConnection if options.log_sql else Connection
    try:
        connection = await kind.connect(
            dsn.conninfo,
            autocommit=True,
            # A cursor that prepares, as in a session, drops all that is prepared at a rollback.
            prepare_threshold=None,
            connect_timeout=connect_timeout,
            application_name=APPLICATION_NAME,
        )
    except psycopg.OperationalError as error:
        # psycopg leaves the socket of an attempt that timed out in a reference cycle with the error.
        clear_frames(error.__traceback__)
        raise
    require_compatible(connection)
    if not dsn.is_pooled:
        connection.has_citus = await _has_citus(connection, connect_timeout)
    connection.node = f"{connection.pgconn.host.decode()}:{connection.pgconn.port.decode()}"
    connection.behind_pooler = dsn.is_pooled
    connection.opened_at = monotonic()
    lifetime = options.limits.lifetime * (1 - LIFETIME_JITTER * random.random())  # noqa: S311 - jitter is not a secret
    connection.expires_at = connection.opened_at + lifetime
    return connection


async def _has_citus(connection: Connection, timeout: int) -> bool:
    """Asked of each connection: what a process knows of the database may be older than Citus in it. One round trip."""
    try:
        async with asyncio.timeout(timeout):
            [row] = await connection.fetch(_CITUS, {})
    except BaseException as error:
        connection.end()
        if isinstance(error, TimeoutError):
            raise psycopg.errors.ConnectionTimeout("the server took the connection and did not answer") from error
        raise
    found: bool = row["has_citus"]
    return found
