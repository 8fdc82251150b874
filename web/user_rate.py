"""The limit of requests of a user: the generic cell rate algorithm, GCRA (docs/adr/0031-limits-of-a-user.md)."""

from time import monotonic_ns

_SECOND = 1_000_000_000
_MINUTE = 60 * _SECOND
USERS_MAX = 50_000
"""Users of one generation, so that both take 15 MB at most. Beyond them the oldest are forgotten early."""


class UserRate:
    """Counts requests of this process. A user costs one number, and nothing once its requests are a minute old.

    The number is the time up to which the user has used its share. Each request moves it on by the share of one, and
    none may move it further than a minute ahead. So all requests of a minute may come at once.
    """

    def __init__(self, per_minute: int) -> None:
        self._share = _MINUTE // per_minute
        # Whatever was written more than a minute ago is over, so the older generation can go as a whole.
        self._young, self._old = dict[str, int](), dict[str, int]()
        self._ends = 0

    def seconds_to_wait(self, user_id: str) -> int:
        """Counts a request, and returns 0; if it is one too many, returns whole seconds after which one may come."""
        now = monotonic_ns()
        if now >= self._ends or len(self._young) >= USERS_MAX:
            self._old, self._young, self._ends = self._young, {}, now + _MINUTE
        used = max(self._young.get(user_id) or self._old.get(user_id, 0), now) + self._share
        if (excess := used - now - _MINUTE) > 0:
            return -(-excess // _SECOND)
        self._young[user_id] = used
        return 0
