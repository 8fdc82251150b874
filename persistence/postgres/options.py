"""The options of a database; apart from the code that uses them, because reading the environment must not load that."""

from dataclasses import dataclass, field

CONNECT_TIMEOUT = 5
"""Seconds for opening a connection, unless `DATABASE_CONNECT_TIMEOUT` says otherwise."""


@dataclass(frozen=True)
class PoolLimits:
    """Sizes in connections, times in seconds."""

    min_size: int = 5
    max_size: int = 20
    timeout: float = 30.0
    lifetime: float = 3600.0


@dataclass(frozen=True)
class DatabaseOptions:
    """Options for `open_database`; times in seconds."""

    limits: PoolLimits = field(default_factory=PoolLimits)
    connect_timeout: int = CONNECT_TIMEOUT
    """For each address of the database; two at least (libpq's rule)."""
    statement_timeout: float = 5.0
    """Limit of one statement, the wait for a connection included; past it the statement is cancelled."""
    log_sql: bool = False
    """Logs every statement at DEBUG, without its parameters (D18)."""
