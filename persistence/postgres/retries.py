"""Retries of a statement: after a growing pause with jitter, and within a budget.

A database in trouble must not get more to do because it is in trouble. So all retries of a process share a budget
that fills by the clock: however many requests fail, no more are tried again.
"""

import asyncio
import random
from time import monotonic

ATTEMPTS = 4
"""Attempts at one statement at most, the first included."""
FIRST_PAUSE = 0.01
"""Seconds before the second attempt; each further pause is twice as long. Jitter makes them half to one and a half."""
BUDGET = 100
"""Retries that may come at once in a process."""
REFILL = 50.0
"""Retries a second that a process may make in the long run."""


class Retries:
    """The budget of a process, for requests and for probes."""

    def __init__(self) -> None:
        self._left = float(BUDGET)
        self._counted_at = monotonic()

    async def wait(self, attempts: int, deadline: float) -> bool:
        """Waits before the next attempt after so many, and returns True; returns False at once if there is none."""
        pause = FIRST_PAUSE * 2 ** (attempts - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter is not a secret
        if attempts >= ATTEMPTS or monotonic() + pause >= deadline or not self._spend():
            return False
        await asyncio.sleep(pause)
        return True

    def _spend(self) -> bool:
        now = monotonic()
        self._left = min(float(BUDGET), self._left + (now - self._counted_at) * REFILL)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
