"""The test environment of the studies that compare: all contenders, up and running, on one database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from statistics import median
from typing import Any

import psycopg

from benchmarks import contenders, state, wrk
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.delay import Proxy
from benchmarks.operations import USERS, Operation, Request
from benchmarks.postgres import Postgres
from benchmarks.processes import Server, cpu_seconds
from benchmarks.sameness import send

DISTINCT = 5_000
"""Distinct requests of a measurement, unless it needs more because each can be sent only once."""
MARGIN = 1.5
"""How much faster than during its warm-up a contender may become before its requests run out."""
COUNTED = 40
"""Requests whose round trips are counted, after as many that are not."""


@dataclass(frozen=True)
class Measurement:
    """One contender at one operation in one round. Times are in milliseconds, CPU time is that of one request."""

    rate: float
    p50: float
    p99: float
    server_cpu: float
    postgres_cpu: float


@dataclass(frozen=True)
class Environment:
    servers: Mapping[str, Server]
    postgres: int
    """PostgreSQL's process id."""
    connection: psycopg.Connection
    """A connection to the database, in autocommit mode."""
    clients: int
    warm_up: float
    """Seconds before each measurement, in which servers open connections and prepare statements."""
    sign: Callable[[str, Request], Request] = lambda _, request: request
    """Makes a request one that the server of this name takes."""

    def reset(self, requests: Sequence[Request] = ()) -> None:
        """Restores the database, and makes the tasks that these requests will delete."""
        state.prepare(self.connection, sum(request.method == "DELETE" for request in requests), USERS)

    def measure_all(self, operations: Sequence[Operation], rounds: int, seconds: float) -> dict[str, Any]:
        """Returns the medians over the rounds, and each round, by operation and contender."""
        names = list(self.servers)
        results: dict[str, Any] = {}
        for operation in operations:
            taken: dict[str, list[Measurement]] = {name: [] for name in names}
            for number in range(rounds):
                # A round measures each contender once, so that all of them see the same changes of the machine.
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    taken[name].append(self.measure(name, operation, seconds, seed=2 * number))
            results[operation.name] = {
                name: medians(each) | {"rounds": [asdict(measurement) for measurement in each]}
                for name, each in taken.items()
            }
        return results

    def measure(self, name: str, operation: Operation, seconds: float, seed: int) -> Measurement:
        """Warms the contender up and measures it. Raises `wrk.LoadFailed`."""
        warm, _, _ = self._run(name, operation, DISTINCT, self.warm_up, seed)
        number = max(DISTINCT, int(warm.rate * seconds * MARGIN)) if operation.deletes else DISTINCT
        done, server_cpu, postgres_cpu = self._run(name, operation, number, seconds, seed + 1)
        if operation.writes:
            self.reset()
        each = 1000 / done.requests
        return Measurement(done.rate, done.p50, done.p99, server_cpu * each, postgres_cpu * each)

    def round_trips(self, name: str, operation: Operation, proxy: Proxy) -> float:
        """Counts the round trips of one request on warm connections; the database is behind the proxy."""
        requests = self._requests(name, operation, 2 * COUNTED, seed=0)
        self.reset(requests)
        with closing(HTTPConnection("127.0.0.1", self.servers[name].port, timeout=30)) as connection:
            for request in requests[:COUNTED]:
                send(connection, request)
            before = proxy.round_trips
            for request in requests[COUNTED:]:
                status, answer = send(connection, request)
                if status >= 400:
                    raise wrk.LoadFailed(f"{name} answers {status} to {request}: {answer}")
            return (proxy.round_trips - before) / COUNTED

    def _requests(self, name: str, operation: Operation, number: int, seed: int) -> list[Request]:
        return [self.sign(name, request) for request in operation.requests(number, seed)]

    def _run(
        self, name: str, operation: Operation, number: int, seconds: float, seed: int
    ) -> tuple[wrk.Result, float, float]:
        """Also returns the CPU seconds of the server and of PostgreSQL."""
        requests = self._requests(name, operation, number, seed)
        self.reset(requests)
        server = self.servers[name]
        before = cpu_seconds(server.process.pid), cpu_seconds(self.postgres)
        try:
            done = wrk.run(server.port, requests, self.clients, seconds)
        except wrk.LoadFailed as failure:
            if operation.deletes and isinstance(failure, wrk.RequestsExhausted):
                return self._run(name, operation, 2 * number, seconds, seed)
            raise wrk.LoadFailed(f"{name}, {operation.title}: {failure}\n{server.log_end}") from failure
        after = cpu_seconds(server.process.pid), cpu_seconds(self.postgres)
        return done, after[0] - before[0], after[1] - before[1]


@contextmanager
def running(
    database: Postgres, port: int, clients: int, warm_up: float, chosen: Sequence[Contender] = CONTENDERS
) -> Iterator[Environment]:
    """Starts contenders. They reach the database at this port, which is its own or that of a proxy."""
    with (
        psycopg.connect(database.dsn.conninfo, autocommit=True) as connection,
        contenders.serving(port, chosen) as servers,
    ):
        state.settle(connection)
        yield Environment(servers, database.process_id, connection, clients, warm_up)


def medians(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Returns the median of each figure by itself."""
    figures = [asdict(measurement) for measurement in measurements]
    return {name: median(figure[name] for figure in figures) for name in figures[0]}
