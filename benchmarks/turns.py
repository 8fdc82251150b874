"""A contender's turn at an operation: how fast it was, and what each request cost."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from statistics import median

import psycopg

from benchmarks import load, state
from benchmarks.delay import Proxy
from benchmarks.load import Load
from benchmarks.operations import USERS, Operation, Request
from benchmarks.processes import Server, cpu_seconds
from benchmarks.sameness import send

KINDS = 5_000
"""Different requests of a turn, unless more are needed because each can be sent only once."""
MARGIN = 1.5
"""How much faster than while it warmed up a contender may become before it has to begin again with more of them."""
COUNTED = 40
"""Requests whose round trips are counted, after as many that are not."""


@dataclass(frozen=True)
class Turn:
    """Times in milliseconds; CPU time is that of one request."""

    rate: float
    p50: float
    p99: float
    server_cpu: float
    postgres_cpu: float


@dataclass(frozen=True)
class Course:
    """The contenders, up and running, and the database behind them, for which there is a connection in autocommit."""

    servers: Mapping[str, Server]
    postgres: int
    connection: psycopg.Connection
    clients: int
    warm_up: float
    """Seconds before each turn, for connections to be opened and statements to be prepared on them."""

    def reset(self, requests: Sequence[Request] = ()) -> None:
        """Makes the database as everybody finds it, with the tasks that these requests will delete."""
        state.prepare(self.connection, sum(request.method == "DELETE" for request in requests), USERS)

    def turn(self, name: str, operation: Operation, seconds: float, seed: int) -> Turn:
        """Warms the contender up and measures it. Raises `load.LoadFailed`."""
        warm, _, _ = self._measure(name, operation, KINDS, self.warm_up, seed)
        number = max(KINDS, int(warm.rate * seconds * MARGIN)) if operation.deletes else KINDS
        done, server_cpu, postgres_cpu = self._measure(name, operation, number, seconds, seed + 1)
        if operation.writes:
            self.reset()
        each = 1000 / done.requests
        return Turn(done.rate, done.p50, done.p99, server_cpu * each, postgres_cpu * each)

    def round_trips(self, name: str, operation: Operation, proxy: Proxy) -> float:
        """Of one request, on warm connections; the database is behind the proxy."""
        requests = operation.requests(2 * COUNTED, seed=0)
        self.reset(requests)
        with closing(HTTPConnection("127.0.0.1", self.servers[name].port, timeout=30)) as connection:
            for request in requests[:COUNTED]:
                send(connection, request)
            before = proxy.turns
            for request in requests[COUNTED:]:
                status, answer = send(connection, request)
                if status >= 400:
                    raise load.LoadFailed(f"{name} answers {status} to {request}: {answer}")
            return (proxy.turns - before) / COUNTED

    def _measure(
        self, name: str, operation: Operation, number: int, seconds: float, seed: int
    ) -> tuple[Load, float, float]:
        """Also the CPU seconds of the server and of PostgreSQL."""
        requests = operation.requests(number, seed)
        self.reset(requests)
        server = self.servers[name]
        before = cpu_seconds(server.process.pid), cpu_seconds(self.postgres)
        try:
            done = load.run(server.port, requests, self.clients, seconds)
        except load.LoadFailed as failure:
            if operation.deletes and isinstance(failure, load.RanOut):
                return self._measure(name, operation, 2 * number, seconds, seed)
            raise load.LoadFailed(f"{name}, {operation.title}: {failure}\n{server.log_end}") from failure
        after = cpu_seconds(server.process.pid), cpu_seconds(self.postgres)
        return done, after[0] - before[0], after[1] - before[1]


def medians(turns: Sequence[Turn]) -> dict[str, float]:
    """The median of each figure for itself."""
    figures = [asdict(turn) for turn in turns]
    return {name: median(figure[name] for figure in figures) for name in figures[0]}
