"""Clients that only read while a fault lasts, and must get 200 each time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from tests.faults.http import Cut, Http, Unsent
from tests.faults.matrix import Result

LIVE = "/api/v1/live"


@asynccontextmanager
async def readers(
    port: int,
    result: Result,
    paths: Iterable[str],
    *,
    pause: float = 0.01,
    keep_alive: bool = True,
    headers: Callable[[str], Mapping[str, str]] = lambda _: {},
) -> AsyncIterator[list[float]]:
    """Runs one client for each path until the block ends, and yields the seconds of their responses.

    Each client pauses for this mean length. Without `keep_alive` it opens a connection for each request. `headers`
    makes those of the next request to a path.
    """
    latencies, is_ending = list[float](), False

    async def read(path: str) -> None:
        http = Http(port)
        while not is_ending:
            try:
                answer = await http.request("GET", path, headers=headers(path))
            except (Unsent, Cut) as error:
                result.failed += 1
                result.expect(False, f"GET {path}: {error}")
            else:
                result.failed += answer.status != 200
                result.expect(answer.status == 200, f"GET {path} got {answer.status}: {answer.body[:100]!r}")
                latencies.append(answer.seconds)
            if not keep_alive:
                http.close()
            await asyncio.sleep(random.uniform(0, 2 * pause))
        http.close()

    working = [asyncio.create_task(read(path)) for path in paths]
    try:
        yield latencies
    finally:
        is_ending = True
        await asyncio.gather(*working)
