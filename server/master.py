"""gunicorn's master: workers that serve go on until new ones do, and as long as none can start."""

import signal
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import Any, override

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from server.options import refuse
from server.shared_metrics import SharedMetrics
from server.shared_state import SHARED_STATE

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds until the next try when a worker could not start."""
_ROOT = Path(__file__).parents[1]
PACKAGES = ("config", "identity", "migrations", "persistence", "server", "todos", "web")
"""What `--reload` watches. The tests and the benchmarks are not part of the server."""


class _Reloaded(Exception):
    """The new workers have been started."""


class Master(Arbiter):  # type: ignore[misc] # gunicorn has no types
    _settings: Mapping[str, Any]
    _metrics: SharedMetrics | None = None
    _is_reloading = False
    _replaced_age = 0
    """The last reload replaces the workers up to this age; 0 after a reload that has failed."""
    _failures = 0
    """Starts of workers that have failed since one worked."""
    _failed_age = 0
    """The age of the newest worker at the last failed start. Others that started before it fail for the same reason."""
    _next_start = 0.0
    _stop_at = inf
    """The time at which the stop begins that a signal has asked for."""
    _code: Mapping[Path, int] | None = None
    """The files when the master last looked. It looks before it starts a worker, so that no later change is missed."""

    @classmethod
    def take_over(cls, server: Any, settings: Mapping[str, Any]) -> None:
        """Makes a master of gunicorn's one, whose class cannot be chosen; called in the hook `on_starting`.

        `settings` are ours. Raises `RuntimeError` for options that are refused.
        """
        refuse(server.cfg, settings)
        server.__class__ = cls
        server._settings = settings  # noqa: SLF001 - it is one of this class
        SHARED_STATE.start_time = time()
        if settings["metrics_bind"]:
            server._metrics = SharedMetrics()  # noqa: SLF001 - as above
            server._add_metrics_listener()  # noqa: SLF001 - as above

    @override
    def setup(self, app: Any) -> None:
        super().setup(app)
        if self._metrics:
            self._add_metrics_listener()

    def _add_metrics_listener(self) -> None:
        """Makes it the last of gunicorn's, so that reloads and a second server treat it as the others."""
        self.cfg.set("bind", [*self.cfg.bind, self._settings["metrics_bind"]])

    def check_listeners(self) -> None:
        """Raises `RuntimeError` for sockets of systemd or of an old server that are not those that the settings name.

        Called in the hook `when_ready`. The API must not be served where the metrics should be, nor the other way.
        """
        wanted, given = len(self.cfg.address), len(self.LISTENERS)
        if wanted != given and (self._metrics or (self.master_pid and not self.systemd)):
            raise RuntimeError(
                f"{given} sockets were handed over, but --bind and METRICS_BIND name {wanted}. The last one has to be "
                "that of METRICS_BIND."
            )
        # A host may be written in many ways, and two listeners cannot share a port.
        addresses = self.LISTENERS[-1].sock.getsockname(), self.cfg.address[-1]
        last, named = (address if isinstance(address, str) else address[1] for address in addresses)
        if self._metrics and (self.systemd or self.master_pid) and last != named:
            raise RuntimeError(
                f"The last socket that was handed over is {last}, and has to be that of METRICS_BIND: "
                f"{self._settings['metrics_bind']}."
            )

    def assign_slot(self, worker: Any) -> None:
        """Prepares a worker before it is forked; called in the hook `pre_fork`."""
        SHARED_STATE.started_age = worker.age
        if self._metrics:
            worker.shared_metrics = self._metrics
            worker.slot = self._metrics.free_slot([each.slot for each in self.WORKERS.values()])

    def release_slot(self, worker: Any) -> None:
        """Lets another worker have the slot of one that has gone; called in the hook `child_exit`."""
        if self._metrics and worker.slot is not None:
            self._metrics.end(worker.slot)

    @override
    def handle_term(self) -> None:
        """Lets load balancers see that this server is not ready any more, and begins the stop after that."""
        SHARED_STATE.is_stop_announced = True
        delay = self._settings["shutdown_delay"]
        # There is nothing to wait for if nothing serves yet, or if another server goes on with the same sockets.
        # gunicorn's own method never returns: it raises StopIteration, at which the master's loop ends.
        if not delay or not SHARED_STATE.serving_age or self.reexec_pid or self.master_pid:
            super().handle_term()
        if self._stop_at == inf:
            self.log.info("Not ready from now on; the stop begins in %g seconds.", delay)
            self._stop_at = monotonic() + delay

    @override
    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        if (left := self._stop_at - monotonic()) <= 0:
            super().handle_term()
        signals: list[int] = super().wait_for_signals(min(timeout, left))
        return signals

    @override
    def stop(self, graceful: bool = True) -> None:
        SHARED_STATE.is_stop_announced = SHARED_STATE.is_stopping = True
        super().stop(graceful)

    @override
    def reload(self) -> None:
        """Leaves everything as it is if the settings cannot be used; gunicorn would end."""
        present = self.app.cfg
        try:
            self.app.reload()
            refuse(self.app.cfg, self._settings)
        except (SystemExit, RuntimeError) as error:
            self.app.cfg = present
            # gunicorn prints the reason and exits with a number.
            reason = "the reason is above" if isinstance(error, SystemExit) else error
            # Workers that are worn would have it tried again each second.
            self._next_start = monotonic() + _LONGEST_PAUSE
            self.log.error("Nothing is reloaded, because gunicorn's settings cannot be used: %s", reason)  # noqa: TRY400 - gunicorn shows more
            return
        self._replaced_age = self.worker_age
        self._is_reloading = True
        with suppress(_Reloaded):
            super().reload()
        self._is_reloading = False

    @override
    def manage_workers(self) -> None:
        if self.cfg.reload and not self._is_reloading:
            self._follow_code()
        if self._failures and SHARED_STATE.serving_age > self._failed_age:
            self._failures = 0
        if SHARED_STATE.worn_age > self._replaced_age:
            if self._failures:
                # One more is tried, as if one were missing, before all are started in vain.
                self.num_workers = len(self.WORKERS) + 1
            elif not self._must_pause:
                self.log.info("A worker has answered as many requests as it may, so all are replaced.")
                self.reload()
        super().manage_workers()
        if self._is_reloading:
            # gunicorn would wait until the old workers have gone, and manage nothing meanwhile.
            raise _Reloaded

    def _follow_code(self) -> None:
        """Reloads when a file has changed. If the code cannot be loaded, the old workers serve until it is mended.

        gunicorn's own reloader ends a worker before its successor starts, and does not watch a module that has failed.
        """
        before, self._code = self._code, _files_of_code()
        if before not in (None, self._code):
            self.log.info("The code has changed, so new workers load it.")
            self.reload()

    @override
    def kill_worker(self, pid: int, sig: int) -> None:
        """Called again and again for workers that are too many. In a reload they serve on until a new one does."""
        worker = self.WORKERS.get(pid)
        if worker and sig == signal.SIGTERM and not SHARED_STATE.is_stopping:
            if self._awaits_successor and worker.age <= SHARED_STATE.serving_age:
                return
            worker.is_dismissed = True
        super().kill_worker(pid, sig)

    @override
    def spawn_workers(self) -> None:
        """While workers fail to start, one at a time tries, so that those that serve keep the processors."""
        if not self._failures:
            number = self.num_workers - len(self.WORKERS)
        else:
            number = int(self._newest <= self._settled_age and not self._must_pause)
        for _ in range(number):
            self.spawn_worker()

    @override
    def reap_workers(self) -> None:
        before = list(self.WORKERS.values())
        self._reap()
        if SHARED_STATE.is_stopping:
            return
        gone = [worker for worker in before if worker not in self.WORKERS.values()]
        if any(worker.age > self._settled_age and not worker.is_dismissed for worker in gone):
            self._note_failure()
        if self._awaits_successor and self._newest <= self._replaced_age:
            # A worker that is worn says so again within a second.
            self._replaced_age = SHARED_STATE.worn_age = 0
            self.log.error("The reload has failed, because no new worker could start; %d serve on.", len(self.WORKERS))

    def _reap(self) -> None:
        """Gunicorn ends the server when a worker cannot start. That is right only if none has ever served."""
        while True:
            try:
                super().reap_workers()
            except HaltServer:
                if not SHARED_STATE.is_stopping and not SHARED_STATE.serving_age:
                    raise
            else:
                return

    def _note_failure(self) -> None:
        if not SHARED_STATE.serving_age:
            # It has crashed or exited with a status that gunicorn does not know.
            raise HaltServer("Worker failed to boot.", self.WORKER_BOOT_ERROR)
        self._failures += 1
        self._failed_age = self.worker_age
        pause = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
        self._next_start = monotonic() + pause
        if len(self.WORKERS) < self.num_workers:
            rest = f"{len(self.WORKERS)} of {self.num_workers} are left, and after {pause:g} s the next one tries"
        else:
            rest = "The others go on"
        self.log.error("A worker could not start; the reason is above. %s.", rest)

    @property
    def _must_pause(self) -> bool:
        return monotonic() < self._next_start

    @property
    def _newest(self) -> int:
        return max((worker.age for worker in self.WORKERS.values()), default=0)

    @property
    def _settled_age(self) -> int:
        """Up to this age workers have served or failed."""
        return max(SHARED_STATE.serving_age, self._failed_age)

    @property
    def _awaits_successor(self) -> bool:
        """True until one of the workers that came with the last reload serves."""
        return 0 < self._replaced_age >= SHARED_STATE.serving_age


def _files_of_code() -> dict[Path, int]:
    """The files of the code, with the times of their last changes."""
    times = {}
    for package in PACKAGES:
        for file in (_ROOT / package).rglob("*.py"):
            # Editors lock a file by a link to nowhere, and one may have gone by now.
            with suppress(OSError):
                times[file] = file.stat().st_mtime_ns
    return times
