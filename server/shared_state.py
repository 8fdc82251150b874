"""The facts that the processes of one server know of each other, in a little memory that they share.

gunicorn tells a worker neither that it replaces another nor that it is being replaced.
"""

import mmap

_WORD = 8


class SharedState:
    """Made before the first worker is forked. Workers are known by their age, which gunicorn counts up from 1."""

    def __init__(self) -> None:
        # Each word is written and read at once, so that no process has to wait for another.
        self._words = memoryview(mmap.mmap(-1, 4 * _WORD)).cast("Q")

    def note_serving(self, age: int) -> None:
        self._words[0] = max(self._words[0], age)

    @property
    def has_served(self) -> bool:
        """True once any worker of this server has served."""
        return self.serving_age > 0

    @property
    def serving_age(self) -> int:
        """The age of the newest worker that has served."""
        return self._words[0]

    def note_reload(self, age: int) -> None:
        """Records that all workers up to this age are to be replaced; 0 after a reload that has failed."""
        self._words[1] = age

    @property
    def replaced_age(self) -> int:
        return self._words[1]

    def is_replaced(self, age: int) -> bool:
        """Tells if newer workers are to take the place of one of this age."""
        return age <= self.replaced_age

    @property
    def awaits_successor(self) -> bool:
        """True until one of the workers that came with the last reload serves."""
        return 0 < self.replaced_age >= self.serving_age

    def note_worn(self, age: int) -> None:
        """Records that a worker of this age has answered as many requests as it may."""
        self._words[2] = age

    @property
    def is_worn(self) -> bool:
        return self._words[2] > self.replaced_age

    def note_stop(self) -> None:
        self._words[3] = 1

    @property
    def is_stopping(self) -> bool:
        return self._words[3] > 0


SHARED_STATE = SharedState()
