"""The numbers of all workers of one server, in a memory that they share, so that any of them can answer for all.

Each worker has a slot that the master gives it, and goes on from what the last worker in that slot had counted. So
nothing that was counted is forgotten when a worker ends, however it ends, and there are no more slots than workers.
"""

import mmap
import struct
from collections.abc import Collection, Iterator
from typing import Any
from zlib import crc32

import orjson

SLOTS = 64
"""Workers at most, those that a reload replaces included. The metrics leave out any beyond that."""
SLOT_SIZE = 2 * 1024 * 1024
"""Bytes of a slot, which hold thousands of series. Only those that are used take memory."""

type Series = tuple[str, ...]
"""The name of a metric and the values of its labels."""
type Numbers = dict[Series, float | list[float]]
"""Values of series; that of a histogram is the number of observations in each bucket, and at last their sum."""

_HALF = SLOT_SIZE // 2
_HEAD = struct.Struct("<QII")
"""The number of the write, the length of what was written, and its checksum."""


class SharedMetrics:
    """Made by the master before it forks the first worker."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * SLOT_SIZE)
        self._is_alive = mmap.mmap(-1, SLOTS)

    def free_slot(self, used: Collection[int | None]) -> int | None:
        """A slot for a new worker, or None if all are used; called by the master."""
        return next((each for each in range(SLOTS) if each not in used), None)

    def end(self, slot: int) -> None:
        """Leaves out the gauges of a worker that has gone; called by the master."""
        self._is_alive[slot] = False

    def write(self, slot: int, counts: Numbers, gauges: Numbers) -> None:
        """Raises `ValueError` for more than a slot can hold; then nothing is written."""
        data = orjson.dumps([list(counts.items()), list(gauges.items())])
        if _HEAD.size + len(data) > _HALF:
            raise ValueError(f"{len(counts)} series are too many")
        number, _ = self._newest(slot)
        # The older half is written: a worker that is killed meanwhile, or another one that reads, has the newer one.
        start = slot * SLOT_SIZE + (number + 1) % 2 * _HALF
        written = _HEAD.pack(number + 1, len(data), crc32(data)) + data
        self._memory[start : start + len(written)] = written
        self._is_alive[slot] = True

    def counts(self, slot: int) -> Numbers:
        return self._numbers(slot)[0]

    def all(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Counts and gauges of each slot that has ever been written."""
        for slot in range(SLOTS):
            counts, gauges = self._numbers(slot)
            yield counts, gauges if self._is_alive[slot] else {}

    def _numbers(self, slot: int) -> tuple[Numbers, Numbers]:
        _, data = self._newest(slot)
        counts, gauges = orjson.loads(data) if data else ([], [])
        return _decoded(counts), _decoded(gauges)

    def _newest(self, slot: int) -> tuple[int, bytes]:
        """The number of the last write that was finished, and what was written."""
        newest = 0, b""
        for start in (slot * SLOT_SIZE, slot * SLOT_SIZE + _HALF):
            number, length, checksum = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + min(length, _HALF)]
            if number > newest[0] and crc32(data) == checksum:
                newest = number, data
        return newest


def added(*parts: Numbers) -> Numbers:
    """The sums of each series."""
    total: Numbers = {}
    for part in parts:
        for series, number in part.items():
            before = total.get(series)
            if isinstance(before, list) and isinstance(number, list):
                total[series] = [a + b for a, b in zip(before, number, strict=False)]
            elif isinstance(before, float | int) and isinstance(number, float | int):
                total[series] = before + number
            else:
                total[series] = number
    return total


def _decoded(items: list[tuple[list[str], Any]]) -> Numbers:
    return {tuple(series): number for series, number in items}
