"""The limit of requests of a user: the generic cell rate algorithm, GCRA (docs/adr/0031-limits-of-a-user.md)."""

from time import monotonic_ns

_SECOND = 1_000_000_000
_MINUTE = 60 * _SECOND
_LONGEST = 2 * _MINUTE
"""How far ahead a user can be."""
USERS_MAX = 50_000
"""Users of one generation, so that both take 15 MB at most. Beyond them the oldest are forgotten early."""


class UserRate:
    """Counts requests of this process. A user costs one number, and nothing once its requests are two minutes old.

    The number is the time up to which the user has used its share. Each request moves it on by the share of one, and
    none may move it further than a minute ahead. So all requests of a minute may come at once. A batch counts as its
    items; it passes if one request would, and may leave a debt, which moves the number up to two minutes ahead.
    """

    def __init__(self, per_minute: int) -> None:
        self._share = _MINUTE // per_minute
        # Whatever was written more than a minute ago is over, so the older generation can go as a whole.
        self._young, self._old = dict[str, int](), dict[str, int]()
        self._ends = 0

    def count_more(self, user_id: str, number: int) -> int:
        """Counts so many requests more for one that has passed, and returns 0, even if they are too many by themselves.

        Then the next ones wait for longer, but no longer than another minute. So returns the seconds to wait if another
        request has done so meanwhile.
        """
        now = monotonic_ns()
        used = max(self._young.get(user_id) or self._old.get(user_id, 0), now)
        if (excess := used - now - _MINUTE) > 0:
            return -(-excess // _SECOND)
        self._young[user_id] = min(used + number * self._share, now + _LONGEST)
        return 0

    def seconds_to_wait(self, user_id: str) -> int:
        """Counts a request, and returns 0; if it is one too many, returns whole seconds after which one may come."""
        now = monotonic_ns()
        if now >= self._ends or len(self._young) >= USERS_MAX:
            self._old, self._young, self._ends = self._young, {}, now + _LONGEST
        used = max(self._young.get(user_id) or self._old.get(user_id, 0), now) + self._share
        if (excess := used - now - _MINUTE) > 0:
            return -(-excess // _SECOND)
        self._young[user_id] = used
        return 0
