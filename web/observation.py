"""One request as the log and the metrics see it, whatever answered it."""

import re
from asyncio import get_running_loop
from collections import Counter
from functools import cache
from time import monotonic, time

from persistence.postgres import costs
from persistence.postgres.costs import Costs, Histogram
from web.request_log import REQUEST_LOG

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER_METHOD = "_OTHER"
"""Stands for all other methods, as a client may make any number of them up."""
UNKNOWN_ROUTE = "unknown"
"""The route of a request that matched none."""
CLIENT_GONE = 499
"""The status of a request whose client hung up before it was whole; no answer has it. nginx uses it so."""

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


class Counts:
    """Numbers of all requests in this process, by their outcome."""

    def __init__(self) -> None:
        self.active = 0
        self.durations: dict[tuple[str, str, int], Histogram] = {}
        """Times by method, route and status."""
        self.refused = Counter[str]()
        """Requests that would have been answered if there were less to do, by reason."""
        self.replays = 0
        """Repeated creates that were answered with what the first of them made."""
        self.outcomes_unknown = 0


COUNTS = Counts()


class Observation(Costs):
    __slots__ = ("_began", "ended", "method", "request_id", "route", "seconds", "size", "status", "trace_id", "user_id")

    def __init__(self, method: str, request_id: str, trace_id: str | None = None) -> None:
        self.database = self.waiting = 0.0
        self._began = monotonic()
        self.method = method
        self.request_id, self.trace_id = request_id, trace_id
        self.route = ""
        """The route in Django's form, which `settle` translates; empty if there is none."""
        self.user_id: str | None = None
        COUNTS.active += 1

    def enter(self) -> None:
        """Makes it that of the running task."""
        costs.current.set(self)

    def end(self, status: int, size: int) -> None:
        """Notes the end, for `settle`. `size` is that of the answer's body in bytes."""
        self.seconds = monotonic() - self._began
        self.ended = time()
        self.status, self.size = status, size
        COUNTS.active -= 1
        if not _ended:
            get_running_loop().call_later(REQUEST_LOG.interval, settle)
        _ended.append(self)


_ended: list[Observation] = []
"""The requests since the last `settle`. Work for many at once is faster: one at a time it takes about twice as long."""


def settle() -> None:
    """Counts the requests that have ended, and writes their lines. Called a few times a second, and at the end."""
    ended = _ended[:]
    _ended.clear()
    for each in ended:
        each.method = each.method if each.method in METHODS else OTHER_METHOD
        each.route = _template(each.route) if each.route else UNKNOWN_ROUTE
        key = each.method, each.route, each.status
        histogram = COUNTS.durations.get(key)
        if histogram is None:
            histogram = COUNTS.durations[key] = Histogram()
        histogram.observe(each.seconds)
    REQUEST_LOG.write(ended)


def current() -> Observation | None:
    """Returns the request that the running task works on."""
    found = costs.current.get()
    return found if isinstance(found, Observation) else None


@cache
def _template(route: str) -> str:
    """One of Django's routes, of which there are a few, as the contract writes paths."""
    return "/" + _PARAMETER.sub(r"{\1}", route)
