"""The listener of `METRICS_BIND`: answers `GET /metrics` for all workers, and nothing else."""

import asyncio
import logging
import resource
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from server.log_stream import lost_lines
from server.protocol import Protocol
from server.shared_metrics import Numbers, SharedMetrics, added
from server.shared_state import SHARED_STATE
from web.handler import Message, Send

if TYPE_CHECKING:
    from server.worker import Worker

logger = logging.getLogger(__name__)

type Collect = Callable[[], tuple[Numbers, Numbers]]
type Render = Callable[[Numbers, Iterable[Numbers], str], tuple[bytes, str]]

FILES_INTERVAL = 10.0
"""Seconds between two counts of open files, as ten thousand clients have as many."""

_PAGE = resource.getpagesize()


class WorkerMetrics:
    """The metrics of one worker. It writes them into its slot once a second, and when it is asked for those of all.

    `state` is ASGI's: the application puts `collect_metrics` and `render_metrics` into it.
    """

    def __init__(self, shared: SharedMetrics, slot: int, state: MutableMapping[str, Any]) -> None:
        self._shared, self._slot, self._state = shared, slot, state
        self._before = shared.counts(slot)
        self._open_files, self._files_counted_at = 0, -inf
        self._is_rendering = asyncio.Lock()

    def publish(self) -> None:
        collect: Collect | None = self._state.get("collect_metrics")
        counts, gauges = collect() if collect else ({}, {})
        counts |= {
            ("process_cpu_seconds_total",): sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
            ("todo_log_lines_lost_total",): lost_lines(),
        }
        try:
            self._shared.write(self._slot, added(self._before, counts), gauges | self._process())
        except ValueError as error:
            logger.error("The metrics of this worker stand still: %s", error)  # noqa: TRY400 - the place says nothing

    def _process(self) -> Numbers:
        gauges: Numbers = {
            ("todo_workers",): 1,
            ("process_start_time_seconds",): SHARED_STATE.start_time,
            ("process_max_fds",): resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }
        # Only Linux has these files.
        with suppress(OSError):
            pages = int(Path("/proc/self/statm").read_bytes().split()[1])
            gauges["process_resident_memory_bytes",] = pages * _PAGE
            if monotonic() - self._files_counted_at >= FILES_INTERVAL:
                self._files_counted_at = monotonic()
                self._open_files = sum(1 for _ in Path("/proc/self/fd").iterdir())
            gauges["process_open_fds",] = self._open_files
        return gauges

    async def application(self, scope: Message, _receive: object, send: Send) -> None:
        render: Render | None = self._state.get("render_metrics")
        if (scope["method"], scope["path"]) != ("GET", "/metrics"):
            # gunicorn warns of a body that HEAD must not have.
            await _send(send, 404, b"" if scope["method"] == "HEAD" else b"Only GET /metrics is here.\n")
        elif render is None:
            await _send(send, 503, b"The worker has yet to start.\n")
        else:
            self.publish()
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            # The text of hundreds of series takes some ten milliseconds, for which requests should not wait. They would
            # wait for each of several threads, so there is one at a time.
            async with self._is_rendering:
                body, content_type = await asyncio.to_thread(self._text, render, accept)
            await _send(send, 200, body, content_type)

    def _text(self, render: Render, accept: str) -> tuple[bytes, str]:
        slots = list(self._shared.all())
        counts = added(*(counts for counts, _ in slots), {("todo_worker_starts_total",): SHARED_STATE.started_age})
        return render(counts, [gauges for _, gauges in slots if gauges], accept)


class MetricsProtocol(Protocol):
    """A connection to the listener of metrics. There is a place for it also where there is none for clients."""

    has_own_place = True

    def __init__(self, worker: "Worker") -> None:
        super().__init__(worker)
        assert worker.metrics
        self.app = worker.metrics.application


async def _send(send: Send, status: int, body: bytes, content_type: str = "text/plain") -> None:
    headers = [(b"Content-Type", content_type.encode("ascii")), (b"Content-Length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
