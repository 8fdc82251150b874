"""Admission control without a wait queue, for work that takes so long that waiting for it would be in vain."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from persistence.postgres.errors import PoolTimeout


class Gate:
    """Lets `size` callers in at once, and of them one with the same key. It refuses the others."""

    retry_after = 5
    """Seconds after which a refused client may try again."""

    def __init__(self, size: int, refusal: str) -> None:
        self._size = size
        self._refusal = refusal
        self._inside: set[Hashable] = set()

    @contextmanager
    def place(self, key: Hashable) -> Iterator[None]:
        """A place until the end of the block. Raises `PoolTimeout` if there is none."""
        if key in self._inside or len(self._inside) >= self._size:
            refused = PoolTimeout(self._refusal)
            refused.retry_after = self.retry_after
            raise refused
        self._inside.add(key)
        try:
            yield
        finally:
            self._inside.discard(key)
