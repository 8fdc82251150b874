"""The metrics: which there are, where their numbers come from, and their text for Prometheus.

Names and units are OpenTelemetry's where it has a convention, in the form of Prometheus. No label holds anything that a
client can choose freely. `docs/observability.md` explains each.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple, override

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from persistence.postgres.costs import SECONDS, Histogram
from persistence.postgres.database import Database
from server.shared_metrics import Numbers
from web.observation import COUNTS, settle
from web.openapi import VERSION

if TYPE_CHECKING:
    from identity.verifier import Verifier


class _Gauge(NamedTuple):
    help: str
    labels: tuple[str, ...] = ()
    merged: Callable[[Iterable[float]], float] = sum
    """How the numbers of several workers become one."""


HISTOGRAMS = {
    "http_server_request_duration_seconds": (
        "Requests, and the seconds until their answers were ready.",
        ("http_request_method", "http_route", "http_response_status_code"),
    ),
    "db_client_operation_duration_seconds": (
        "Statements, and the seconds that they took, without the wait for a connection.",
        ("db_operation_name",),
    ),
    "db_client_connection_wait_time_seconds": (
        "Waits for a connection, and the seconds until there was one, or the caller was refused.",
        (),
    ),
}
COUNTERS = {
    "db_client_connection_timeouts_total": ("Callers that got no connection, as the wait was too long.", ()),
    "todo_statement_retries_total": ("Statements that failed in passing and ran again.", ()),
    "todo_statements_cut_off_total": ("Statements that were ended at their deadline.", ()),
    "todo_outcomes_unknown_total": ("Requests that were told that their change may have been made or not.", ()),
    "todo_requests_refused_total": ("Requests and clients that were refused for lack of room, by reason.", ("reason",)),
    "todo_creates_replayed_total": ("Repeated creates that were answered with the task of the first.", ()),
    "todo_jwks_fetches_total": ("Fetches of the issuer's keys, by outcome.", ("outcome",)),
    "todo_log_lines_lost_total": ("Lines of the log that were lost, as nothing took them.", ()),
    "todo_worker_starts_total": ("Workers that were started, those of reloads included.", ()),
    "process_cpu_seconds_total": ("Seconds of CPU that the workers have used.", ()),
}
GAUGES = {
    "http_server_active_requests": _Gauge("Requests that are being answered."),
    "db_client_connection_count": _Gauge("Connections to the database.", ("state",)),
    "db_client_connection_max": _Gauge("Connections to the database that the workers may open."),
    "db_client_connection_pending_requests": _Gauge("Callers that wait for a connection."),
    "todo_database_lost": _Gauge("Workers that can open no connection to the database."),
    "todo_database_silent_nodes": _Gauge("Nodes of the database that do not answer.", merged=max),
    "todo_schema_behind": _Gauge("1 if the schema was behind or unusable when a worker last looked.", merged=max),
    "todo_jwks_age_seconds": _Gauge("Seconds since the issuer's keys were last fetched.", merged=max),
    "todo_build_info": _Gauge("The version of the service.", ("version",), merged=max),
    "todo_workers": _Gauge("Workers that run."),
    "process_resident_memory_bytes": _Gauge("Memory of the workers together; what they share counts for each."),
    "process_open_fds": _Gauge("Open files of the worker that has most.", merged=max),
    "process_max_fds": _Gauge("Files that a worker may open.", merged=min),
    "process_start_time_seconds": _Gauge("Start of the server, in seconds since 1970.", merged=min),
}
REASONS = ("busy", "connections", "rate", "tasks")
OUTCOMES = ("ok", "failed")

# Series that alerts compare exist before they are counted for the first time.
_ZEROS: Numbers = {
    **{(name,): 0 for name, (_, labels) in COUNTERS.items() if not labels},
    **{("todo_requests_refused_total", reason): 0 for reason in REASONS},
}
_BOUNDS = [*(f"{bound:g}" for bound in SECONDS), "+Inf"]


def collect(database: Database | None, verifier: "Verifier | None") -> tuple[Numbers, Numbers]:
    """The counts and the gauges of this process."""
    counts, gauges = _of_requests()
    gauges["todo_build_info", VERSION] = 1
    for more in (_of_database(database) if database else None, _of_keys(verifier) if verifier else None):
        if more:
            counts |= more[0]
            gauges |= more[1]
    return counts, gauges


def render(counts: Numbers, gauges: Iterable[Numbers], accept: str) -> tuple[bytes, str]:
    """The text that Prometheus reads, in the format that it accepts, and the type of that format."""
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version in it that is not a number.
        encode, content_type = choose_encoder("")
    return encode(_Families(counts, list(gauges))), content_type


def _of_requests() -> tuple[Numbers, Numbers]:
    settle()
    counts: Numbers = {
        ("http_server_request_duration_seconds", method, route, str(status)): _numbers(histogram)
        for (method, route, status), histogram in COUNTS.durations.items()
    }
    counts |= {("todo_requests_refused_total", reason): number for reason, number in COUNTS.refused.items()}
    counts["todo_outcomes_unknown_total",] = COUNTS.outcomes_unknown
    counts["todo_creates_replayed_total",] = COUNTS.replays
    return _ZEROS | counts, {("http_server_active_requests",): COUNTS.active}


def _of_database(database: Database) -> tuple[Numbers, Numbers]:
    found = database.counts
    counts: Numbers = {
        ("db_client_operation_duration_seconds", name): _numbers(histogram)
        for name, histogram in found.operations.items()
    }
    counts |= {
        ("db_client_connection_wait_time_seconds",): _numbers(found.waits),
        ("db_client_connection_timeouts_total",): found.timeouts,
        ("todo_statement_retries_total",): found.retries,
        ("todo_statements_cut_off_total",): found.cut_off,
    }
    pools, nodes = {database.pool, database.probes.pool}, database.node_stats
    gauges: Numbers = {
        ("db_client_connection_count", "idle"): sum(pool.stats.idle for pool in pools),
        ("db_client_connection_count", "used"): sum(pool.stats.in_use for pool in pools),
        ("db_client_connection_max",): sum(pool.limits.max_size for pool in pools),
        ("db_client_connection_pending_requests",): sum(pool.stats.waiting for pool in pools),
        ("todo_database_lost",): database.pool.is_lost,
        ("todo_database_silent_nodes",): nodes.known - nodes.answering,
    }
    if found.schema_is_behind is not None:
        gauges["todo_schema_behind",] = found.schema_is_behind
    return counts, gauges


def _of_keys(verifier: "Verifier") -> tuple[Numbers, Numbers]:
    fetches: Numbers = {("todo_jwks_fetches_total", outcome): verifier.fetches[outcome] for outcome in OUTCOMES}
    return fetches, {("todo_jwks_age_seconds",): verifier.age_of_keys}


def _numbers(histogram: Histogram) -> list[float]:
    return [*histogram.counts, histogram.total]


class _Families(Collector):
    """Numbers in the terms of prometheus_client. What another version of the code has counted is left out."""

    def __init__(self, counts: Numbers, gauges: list[Numbers]) -> None:
        self._counts, self._gauges = counts, gauges

    @override
    def collect(self) -> Iterable[Metric]:
        for name, (text, labels) in HISTOGRAMS.items():
            histograms = HistogramMetricFamily(name, text, labels=labels)
            for values, number in _series(self._counts, name):
                if isinstance(number, list) and len(number) == len(_BOUNDS) + 1:
                    *buckets, total = number
                    histograms.add_metric(values, list(zip(_BOUNDS, accumulate(buckets), strict=True)), total)
            yield histograms
        for name, (text, labels) in COUNTERS.items():
            counters = CounterMetricFamily(name, text, labels=labels)
            for values, number in _series(self._counts, name):
                if not isinstance(number, list):
                    counters.add_metric(values, number)
            yield counters
        for name, gauge in GAUGES.items():
            family = GaugeMetricFamily(name, gauge.help, labels=gauge.labels)
            found: dict[tuple[str, ...], list[float]] = {}
            for values, number in chain.from_iterable(_series(numbers, name) for numbers in self._gauges):
                if not isinstance(number, list):
                    found.setdefault(tuple(values), []).append(number)
            for label_values, numbers in found.items():
                family.add_metric(list(label_values), gauge.merged(numbers))
            yield family


def _series(numbers: Numbers, name: str) -> Iterable[tuple[list[str], float | list[float]]]:
    return [(list(values), number) for (first, *values), number in numbers.items() if first == name]
