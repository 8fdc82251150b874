"""gunicorn's master: it goes on with the workers that it has when no new one can start, and a stop waits for none."""

import signal
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, override

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from server.options import refuse
from server.shared_state import SHARED_STATE

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds until the next try when a worker could not start."""
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class _ReloadOver(Exception):
    """A reload has nothing left to wait for: the server is to stop, or no new worker could start."""


class Master(Arbiter):  # type: ignore[misc] # gunicorn has no types
    _settings: Mapping[str, Any]
    _failures = 0
    """Starts of workers that have failed since one worked."""
    _failed_age = 0
    """The age of the newest worker when a start failed last. Those that were starting then fail for the same reason."""
    _next_start = 0.0
    _is_reloading = False
    _must_stop = False

    @classmethod
    def take_over(cls, server: Any, settings: Mapping[str, Any]) -> None:
        """Makes a master of gunicorn's one, whose class cannot be chosen; called in the hook `on_starting`.

        `settings` are ours. Raises `RuntimeError` for options that are refused.
        """
        refuse(server.cfg, settings)
        server.__class__ = cls
        server._settings = settings  # noqa: SLF001 - it is one of this class

    @override
    def signal(self, sig: int, frame: object) -> None:
        self._must_stop |= sig in _STOPS
        super().signal(sig, frame)

    @override
    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """A stop comes before whatever else is asked for, and several reloads are one."""
        signals = list(dict.fromkeys(super().wait_for_signals(timeout)))
        return [each for each in signals if each in _STOPS] or signals

    @override
    def stop(self, graceful: bool = True) -> None:
        SHARED_STATE.note_stop()
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
            self.log.error("Nothing is reloaded, because gunicorn's settings cannot be used: %s", error)  # noqa: TRY400 - gunicorn shows more
            return
        SHARED_STATE.note_reload(self.worker_age)
        self._is_reloading = True
        with suppress(_ReloadOver):
            super().reload()
        self._is_reloading = False

    @override
    def manage_workers(self) -> None:
        if self._failures and SHARED_STATE.serving_age > self._failed_age:
            self._failures = 0
        if SHARED_STATE.is_worn and not self._must_pause:
            self.log.info("A worker has answered as many requests as it may, so all are replaced.")
            self.reload()
        super().manage_workers()

    @override
    def spawn_workers(self) -> None:
        """While workers fail to start, one at a time tries, so that those that serve keep the processors."""
        if not self._failures:
            number = self.num_workers - len(self.WORKERS)
        else:
            number = int(self.worker_age == self._failed_age and not self._must_pause)
        for _ in range(number):
            if not self._must_stop:
                self.spawn_worker()

    @override
    def reap_workers(self) -> None:
        before = list(self.WORKERS.values())
        self._reap()
        if SHARED_STATE.is_stopping:
            return
        ages = {worker.age for worker in self.WORKERS.values()}
        newest = max(SHARED_STATE.serving_age, SHARED_STATE.replaced_age, self._failed_age)
        if any(worker.age > newest for worker in before if worker.age not in ages):
            self._note_failure()
        if SHARED_STATE.awaits_successor and SHARED_STATE.is_replaced(max(ages, default=0)):
            SHARED_STATE.note_reload(0)
            self.log.error("The reload has failed, because no new worker could start; %d serve on.", len(ages))
        if self._is_reloading and (self._must_stop or not SHARED_STATE.replaced_age):
            raise _ReloadOver

    def _reap(self) -> None:
        """Gunicorn ends the server when a worker cannot start. That is right only if none has ever served."""
        while True:
            try:
                super().reap_workers()
            except HaltServer:
                if not SHARED_STATE.is_stopping and not SHARED_STATE.has_served:
                    raise
            else:
                return

    def _note_failure(self) -> None:
        self._failures += 1
        self._failed_age = self.worker_age
        pause = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
        self._next_start = monotonic() + pause
        self.log.error(
            "A worker could not start; the reason is above. %d go on, and after %g s the next one tries.",
            len(self.WORKERS), pause,
        )  # fmt: skip

    @property
    def _must_pause(self) -> bool:
        return self._failures > 0 and monotonic() < self._next_start
