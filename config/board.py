"""What the processes of one server know of each other, in a little memory that they share.

gunicorn tells a worker neither that it replaces another nor that it is being replaced.
"""

import mmap
import os
from time import monotonic

_WORD = 8
_MILLISECONDS = 1000


class Board:
    """Made before the first worker is forked. Workers are known by their age, which gunicorn counts up from 1."""

    def __init__(self) -> None:
        # Each word is written and read at once, so that nobody has to wait for anybody.
        self._words = memoryview(mmap.mmap(-1, 4 * _WORD)).cast("Q")

    def note_serving(self, age: int) -> None:
        self._words[0] = max(self._words[0], age)

    def note_reload(self, age: int) -> None:
        """All workers up to this age are to be replaced."""
        self._words[1] = age

    def ask_for_connection(self) -> None:
        """Says that this process has no connection to the database because the others have them all."""
        self._words[2], self._words[3] = int(monotonic() * _MILLISECONDS), os.getpid()

    def is_asked_for_connection(self, within: float) -> bool:
        """Whether another process has said so in these last seconds."""
        asked, by = self._words[2:4]
        return asked > (monotonic() - within) * _MILLISECONDS and by != os.getpid()

    def forget_request(self) -> None:
        """To be called by who has given one up; who still has none asks again."""
        self._words[2] = 0

    @property
    def has_served(self) -> bool:
        """Whether any worker of this server has ever served."""
        return self._words[0] > 0

    def is_replaced(self, age: int) -> bool:
        """Whether newer workers are to take the place of one of this age."""
        return age <= self._words[1]

    @property
    def has_successor(self) -> bool:
        """Whether one of the workers that came with the last reload serves."""
        return self._words[0] > self._words[1]


BOARD = Board()
