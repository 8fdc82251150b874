"""How to use a database; apart from the code that does, because reading the environment must not load that."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PoolLimits:
    """Sizes in connections, times in seconds."""

    min_size: int = 5
    max_size: int = 20
    timeout: float = 30.0
    lifetime: float = 3600.0


@dataclass(frozen=True)
class DatabaseOptions:
    """How to use the database at a `Dsn`; times in seconds."""

    limits: PoolLimits = field(default_factory=PoolLimits)
    connect_timeout: float = 5.0
    statement_timeout: float = 5.0
    """For one statement, the wait for a connection included; past it the connection is cut off."""
    log_sql: bool = False
    """Logs every statement at DEBUG, without its parameters (D18)."""
