"""The study of a spread database: what PostgreSQL needs for each operation on plain PostgreSQL and on Citus.

`CITUS_TEST_URL` names the coordinator of a cluster whose nodes all run on this machine, as a superuser. The plain
database is another one on the coordinator's server, so it has the same build and settings. Figures are the time that
PostgreSQL's processes for the connections to a database spend on a processor, those between nodes included.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self
from uuid import UUID

import psycopg

from benchmarks import capacity, data
from benchmarks.calls import CALLS, MIX, TASKS, USERS, Call, Target
from benchmarks.capacity import DIRECT, OWNER, PLAIN, ROUTER
from benchmarks.options import Options
from benchmarks.tables import Goal, markdown
from persistence import distribution, migrator
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.support.databases import database_on
from tests.support.nodes import alone, connect_nodes, nodes_of

VARIABLE = "CITUS_TEST_URL"
MISSING = f"{VARIABLE} does not name a coordinator of Citus with two workers or more, all on this machine"
NODES = (2, 4, 8)
"""Nodes with shards, as far as the cluster has so many. Single operations are measured with the first of these."""
BATCHES, QUICK_BATCHES, WARM_UP = 120, 10, 20
"""Batches of each operation, and those before them that do not count."""
AT_ONCE = 10
"""Runs of an operation in a batch."""
CLIENTS, REQUESTS = 16, 640
"""Clients that send the mix, each with a connection, and the operations of a batch."""
APART = 1.25
TIMEOUT = 3600.0
"""Seconds, so that no statement is cut off, however busy the machine is."""


class Meter:
    """The processes of a server for the connections to one database."""

    def __init__(self, dsn: Dsn) -> None:
        self._database = dsn.database
        # To another database, so that this connection does not count.
        self._connection = psycopg.connect(dsn.with_database("postgres").conninfo, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def microseconds(self) -> float:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        total = 0
        for (pid,) in self._connection.execute(query, [self._database]).fetchall():
            with suppress(FileNotFoundError):
                total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        return total / 1000


@dataclass(frozen=True)
class Way:
    """A way to the rows. `parts` are the servers whose time is measured, by the name of the figure."""

    parts: Mapping[str, Sequence[Meter]]
    target: Target
    taken: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Microseconds of each operation and part, one figure for each batch."""

    async def measure(self, name: str, number: int, work: Awaitable[object]) -> None:
        before = self._microseconds()
        await work
        for part, after in self._microseconds().items():
            self.taken.setdefault(name, {}).setdefault(part, []).append((after - before[part]) / number)

    def _microseconds(self) -> dict[str, float]:
        return {part: sum(meter.microseconds() for meter in meters) for part, meters in self.parts.items()}


def run(options: Options) -> dict[str, Any]:
    servers = nodes_of(Dsn.parse(os.environ[VARIABLE])) if VARIABLE in os.environ else []
    if len(servers) <= NODES[0]:
        raise RuntimeError(MISSING)
    with ExitStack() as stack:
        [plain] = stack.enter_context(database_on(servers[:1]))
        migrator.migrate(plain)
        data.fill(plain, USERS, TASKS)
        spread = {each: stack.enter_context(_spread(servers[: each + 1])) for each in NODES if each < len(servers)}
        batches = QUICK_BATCHES if options.quick else BATCHES
        operations = asyncio.run(_measure_operations(plain, spread[NODES[0]], batches))
        mix = asyncio.run(_measure_mix(plain, spread, 4 * options.rounds))
    return {"operations": operations, "mix": mix}


@contextmanager
def _spread(servers: Sequence[Dsn]) -> Iterator[list[Dsn]]:
    """Yields a database with the same rows, spread over these servers, of which the first is the coordinator."""
    with database_on(servers) as nodes:
        connect_nodes(nodes)
        migrator.migrate(nodes[0])
        data.fill(nodes[0], USERS, TASKS)
        with alone(servers[0]):
            distribution.distribute(nodes[0])
        with psycopg.connect(nodes[0].conninfo, autocommit=True) as connection:
            # Citus would do it later, beside the measurements.
            connection.execute("CALL citus_cleanup_orphaned_resources()")
            connection.execute("VACUUM (ANALYZE) users, tasks")
        yield nodes


async def _measure_operations(plain: Dsn, nodes: Sequence[Dsn], batches: int) -> dict[str, dict[str, float]]:
    """Returns the microseconds of each operation by the parts of `capacity`, with one client."""
    async with AsyncExitStack() as stack:
        at_plain, router, *owners = [await stack.enter_async_context(_database(dsn, 1)) for dsn in (plain, *nodes)]
        first, second, *others = [stack.enter_context(Meter(dsn)) for dsn in (plain, *nodes)]
        places = _places(nodes)
        ways = [
            Way({PLAIN: [first]}, Target(lambda _: at_plain)),
            Way({ROUTER: [second], OWNER: others}, Target(lambda _: router)),
            Way({DIRECT: [second, *others]}, Target(lambda user: owners[places[user]])),
        ]
        for number in range(-WARM_UP, batches):
            for name, call in CALLS.items():
                for way in ways[:: 1 if number % 2 else -1]:
                    await way.measure(name, AT_ONCE, _in_a_row(call, way.target, seed=f"{number} {name}"))
    return {
        name: {part: median(found[WARM_UP:]) for way in ways for part, found in way.taken[name].items()}
        for name in CALLS
    }


async def _in_a_row(call: Call, target: Target, seed: str) -> None:
    dice = random.Random(seed)  # noqa: S311 - users are not secret
    for _ in range(AT_ONCE):
        await call(target, dice)


async def _measure_mix(plain: Dsn, spread: Mapping[int, Sequence[Dsn]], rounds: int) -> dict[str, float]:
    """Returns the microseconds of an operation of the mix: plain, and by the number of nodes with shards.

    The pool has connections to all of these nodes, so an operation comes to the node of its owner by chance.
    """
    async with AsyncExitStack() as stack:

        async def way(nodes: Sequence[Dsn]) -> Way:
            database = await stack.enter_async_context(_database(_all(nodes), CLIENTS))
            return Way({"all": [stack.enter_context(Meter(dsn)) for dsn in nodes]}, Target(lambda _: database))

        ways = {PLAIN: await way([plain])} | {str(number): await way(nodes[1:]) for number, nodes in spread.items()}
        for number in range(-2, rounds):
            for each in [*ways.values()][:: 1 if number % 2 else -1]:
                await each.measure("mix", REQUESTS, _mixed(each.target, seed=str(number)))
    return {name: median(each.taken["mix"]["all"][2:]) for name, each in ways.items()}


async def _mixed(target: Target, seed: str) -> None:
    dice = random.Random(seed)  # noqa: S311 - users are not secret
    # At first there is nothing to delete.
    chosen = ["create"] * CLIENTS + dice.choices([*MIX], [*MIX.values()], k=REQUESTS - CLIENTS)
    left = iter(chosen)

    async def client() -> None:
        for name in left:
            await CALLS[name](target, dice)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())


@asynccontextmanager
async def _database(dsn: Dsn, connections: int) -> AsyncIterator[Database]:
    limits = PoolLimits(min_size=connections, max_size=connections)
    async with open_database(dsn, DatabaseOptions(limits, statement_timeout=TIMEOUT)) as database:
        yield database


def _all(nodes: Sequence[Dsn]) -> Dsn:
    """The address with all nodes, one of which each new connection picks at random."""
    lists = {name: ",".join(node.parameters[name] for node in nodes) for name in ("host", "port")}
    return Dsn(nodes[0].parameters | lists | {"load_balance_hosts": "random"})


def _places(nodes: Sequence[Dsn]) -> dict[UUID, int]:
    """The node that has each user, by its place after the coordinator."""
    query = (
        "SELECT nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid)"
        " WHERE shardid = get_shard_id_for_distribution_column('users', %s)"
    )
    ports = [int(node.parameters["port"]) for node in nodes[1:]]
    with psycopg.connect(nodes[0].conninfo) as connection:
        users = [data.user_id(number) for number in range(1, USERS + 1)]
        return {user: ports.index(connection.execute(query, [user]).fetchall()[0][0]) for user in users}


def table(result: dict[str, Any]) -> str:
    costs = result["operations"] | {"**mix, calculated**": capacity.share(result["operations"], MIX)}
    rows = []
    for name, cost in costs.items():
        hop = cost[ROUTER] + cost[OWNER]
        figures = [f"{cost[part]:,.0f}" for part in (PLAIN, ROUTER, OWNER, DIRECT)]
        ratios = [f"{each / cost[PLAIN]:.1f}" for each in (hop, cost[DIRECT])]
        rows.append([name, *figures, *ratios, str(capacity.pays_from(cost))])
    heads = ["plain", "router", "owner's node", "direct", "router + owner's / plain", "direct / plain", "pays from"]
    return f"{markdown(["PostgreSQL's CPU, µs", *heads], rows)}\n\n{_mix_table(result)}"


def _mix_table(result: Mapping[str, Any]) -> str:
    plain, rows = result["mix"][PLAIN], []
    for nodes, *ratios in _ratios(result):
        figures = [*ratios, *(nodes / ratio for ratio in ratios)]
        each = result["mix"][str(nodes)]
        rows.append([str(nodes), f"{plain:,.0f}", f"{each:,.0f}", *(f"{figure:.2f}" for figure in figures)])
    heads = ["plain, µs", "spread, µs", "ratio, calculated", "measured", "capacity, calculated", "measured"]
    return markdown(["The mix, nodes", *heads], rows)


def _ratios(result: Mapping[str, Any]) -> list[tuple[int, float, float]]:
    """The cost of the mix over that on plain PostgreSQL, calculated and measured, by the number of nodes."""
    cost, measured = capacity.share(result["operations"], MIX), dict(result["mix"])
    plain = measured.pop(PLAIN)
    return [
        (int(nodes), capacity.on_nodes(cost, int(nodes)) / cost[PLAIN], each / plain)
        for nodes, each in measured.items()
    ]


def goals(result: dict[str, Any]) -> list[Goal]:
    apart = [measured / calculated for _, calculated, measured in _ratios(result)]
    return [
        Goal(
            f"the mix on so many nodes, measured over calculated: within {APART} times",
            f"{min(apart):.2f} to {max(apart):.2f}",
            min(apart) >= 1 / APART and max(apart) <= APART,
        )
    ]
