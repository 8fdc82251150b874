"""Plain numbers about statements: what those of a request took, for its line in the log, and all of them, for metrics.

Nothing here publishes anything, and counting takes less than a microsecond a statement.
"""

from bisect import bisect_left
from contextvars import ContextVar

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of every histogram. PostgreSQL answers most statements in less than the first."""


class Histogram:
    """Counts observations by `SECONDS`."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        """Observations of each bucket alone; the last one has no upper bound."""
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds


class Costs:
    """Seconds that the statements of one request took, and that they waited for connections."""

    __slots__ = ("database", "waiting")

    def __init__(self) -> None:
        self.database = self.waiting = 0.0


current: ContextVar[Costs | None] = ContextVar("costs", default=None)
"""The costs of the request that the running task works on."""


class Counts:
    """Numbers of all statements of a database in this process, by their outcome."""

    def __init__(self) -> None:
        self.operations: dict[str, Histogram] = {}
        """Times of statements by their names, without the waits."""
        self.waits = Histogram()
        """Times until a caller had a connection, or was refused."""
        self.timeouts = 0
        """Callers that got no connection in time."""
        self.retries = 0
        """Statements that ran once more."""
        self.cut_off = 0
        """Statements and sessions that were ended at their deadline."""
        self.schema_is_behind: bool | None = None
        """The last finding of `persistence.readiness`; None before the first."""

    def add_operation(self, name: str, seconds: float) -> None:
        histogram = self.operations.get(name)
        if histogram is None:
            histogram = self.operations[name] = Histogram()
        histogram.observe(seconds)
        if costs := current.get():
            costs.database += seconds

    def add_wait(self, seconds: float) -> None:
        self.waits.observe(seconds)
        if costs := current.get():
            costs.waiting += seconds
