"""What a server and a database must be; the server says both when a connection is made, so asking costs nothing."""

from typing import Any

import psycopg

MIN_VERSION = 16
ENCODING = "UTF8"


class Incompatible(psycopg.OperationalError):
    """The server or the database cannot be used, however often it is tried; the text says why."""


def require_compatible[C: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]](connection: C) -> C:
    """The connection, or `Incompatible` and the connection closed."""
    version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
    if version < MIN_VERSION * 10000:
        problem = f"it is PostgreSQL {version // 10000}, and {MIN_VERSION} is the oldest that can be used"
    # A pooler may not pass it on.
    elif encoding not in (ENCODING, None):
        problem = f"its encoding is {encoding}, in which not every text can be stored"
    else:
        return connection
    connection.pgconn.finish()
    raise Incompatible(problem)
