"""What came of a round."""

from collections import Counter
from dataclasses import dataclass, field

NONE = 0
"""In place of a status: the server closed the connection, or waited for more than was sent."""


@dataclass
class Report:
    """`answers` counts them by what was sent, in words, and status."""

    failures: list[str] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
