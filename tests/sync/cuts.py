"""Connections that are cut at the worst moments: when a request or a statement is sent, and before its answer."""

import random
from collections import Counter
from uuid import uuid4

from tests.faults.proxy import SYNC, Proxy

SHARE = 0.03
"""Share of the requests that are cut."""
HEADER = "X-Cut"


class Cuts:
    """Orders to cut connections of clients, by `front`, and those of the server to its database, by `back`."""

    def __init__(self, front: Proxy | None = None, back: Proxy | None = None, share: float = SHARE) -> None:
        self.made = Counter[str]()
        self._proxies = {name: proxy for name, proxy in (("request", front), ("statement", back)) if proxy}
        # A batch may be sent in several parts. If only some of them came, PostgreSQL would wait for the others.
        self._ends = {"request": b"", "statement": SYNC}
        self._share = share

    def arm(self, text: str) -> None:
        """Now and then, cuts the connection on which the text comes next: before or after all of it has arrived."""
        if self._proxies and random.random() < self._share:
            name, proxy = random.choice([*self._proxies.items()])
            before = random.random() < 0.5
            proxy.cut_when(text.encode(), before=before, end=self._ends[name])
            self.made[f"{name} cut {'before' if before else 'after'}"] += 1

    def arm_read(self) -> dict[str, str] | None:
        """The headers of a request that is cut now and then."""
        front = self._proxies.get("request")
        if front is None or random.random() >= self._share:
            return None
        front.cut_when((mark := uuid4().hex).encode(), before=random.random() < 0.5)
        self.made["poll cut"] += 1
        return {HEADER: mark}
