"""Waiting in an event loop for a condition that takes a system call or a query to check."""

import asyncio
from collections.abc import Callable

import psutil

from tests.support.servers import eventually


async def until(condition: Callable[[], bool], timeout: float = 60.0) -> float:
    """Waits until the condition holds, and returns the seconds. Raises `AssertionError` after the timeout.

    The condition runs in a thread. A process that ends while the condition looks at it only costs another look.
    """

    def holds() -> bool:
        try:
            return condition()
        except psutil.NoSuchProcess:
            return False

    return await asyncio.to_thread(eventually, holds, timeout)
