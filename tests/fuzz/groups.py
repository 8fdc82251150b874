"""Requests sent at once on one connection. They follow from a seed and a number, so that they can be sent again."""

from dataclasses import dataclass
from random import Random

from tests.fuzz.grammar import Grammar
from tests.fuzz.mutations import bend_body, bend_values
from tests.fuzz.wire import bend_wire

_CERTAIN = 8000
"""Bytes of a request that a server has read before it answers, even if it refuses the request and closes.

Closing on unread bytes resets the connection, and the answer may be lost on the way.
"""


@dataclass(frozen=True)
class Case:
    """One request. A sane one must be answered, exactly once; any other one must only do no harm."""

    label: str
    data: bytes
    is_sane: bool
    is_head: bool

    @property
    def must_be_answered(self) -> bool:
        return self.is_sane and len(self.data) <= _CERTAIN


@dataclass(frozen=True)
class Group:
    number: int
    cases: tuple[Case, ...]
    cuts: tuple[int, ...]
    """The places where the bytes are cut in pieces, which are sent one by one."""

    @property
    def is_sane(self) -> bool:
        return all(case.is_sane for case in self.cases)

    @property
    def data(self) -> bytes:
        return b"".join(case.data for case in self.cases)

    @property
    def pieces(self) -> list[bytes]:
        data = self.data
        ends = [*self.cuts, len(data)]
        return [data[start:end] for start, end in zip([0, *self.cuts], ends, strict=True)]


def group(grammar: Grammar, seed: int, number: int) -> Group:
    random = Random(seed << 32 | number)  # noqa: S311 - it is to be predictable
    # Most clients wait for an answer before they ask again; some send several requests at once.
    count = random.choice((1, 1, 1, 1, 2, 3, 6))
    cases = tuple(_case(grammar, random) for _ in range(count))
    if not all(case.is_sane for case in cases):
        # Without knowing which answer is to which request, the client cannot tell which has no body.
        cases = tuple(case for case in cases if not case.is_head)
    size = sum(len(case.data) for case in cases)
    cuts = random.choice((1, 3)) if size > 1 and random.random() < 0.05 else 0
    return Group(number, cases, tuple(sorted({random.randrange(1, size) for _ in range(cuts)})))


def _case(grammar: Grammar, random: Random) -> Case:
    draw = random.random()
    if draw < 0.1:
        message = grammar.quiet(random)
        return Case(f"quiet  {message.label}", message.encode(), is_sane=True, is_head=False)
    message = grammar.any(random)
    if draw > 0.8 and message.method != b"HEAD":
        return Case(f"wire   {message.label}", bend_wire(message, random), is_sane=False, is_head=False)
    kind = "plain "
    if draw < 0.5:
        kind = "values"
        bend_values(message, random)
    elif draw < 0.65 and message.body is not None:
        kind = "body  "
        bend_body(message, random)
    return Case(f"{kind} {message.label}", message.encode(), is_sane=True, is_head=message.method == b"HEAD")
