"""The test environment of scenarios on Citus: a database spread over the nodes of a given cluster, and gunicorn."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, override
from uuid import UUID, uuid4

import psycopg

from persistence import distribution, grants, migrator
from tests.faults.administrator import Administrator
from tests.faults.connections import Watch
from tests.faults.environment import USERS, Service, concluding, enter, production
from tests.faults.matrix import Result, Run, Skipped
from tests.support import citus
from tests.support.citus import Node
from tests.support.servers import WebServer

NODES = 3
"""A coordinator and two workers."""
_SHARD = "get_shard_id_for_distribution_column('tasks', %s::uuid)"
_PLACE = f"""
    SELECT nodename, nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE shardid = {_SHARD}
"""
_SHARDS = """
    SELECT shardid, nodename, nodeport
    FROM pg_dist_shard JOIN pg_dist_placement USING (shardid) JOIN pg_dist_node USING (groupid)
    WHERE logicalrelid = 'tasks'::regclass
"""


class Move(NamedTuple):
    """A shard of the tasks that has gone from one node to another, by their places in `Spread.nodes`."""

    shard: int
    source: int
    target: int


@dataclass(kw_only=True)
class Spread(Service):
    nodes: list[Node]
    """The coordinator, and then the workers."""
    owners: dict[int, list[UUID]]
    """The users whose tasks were at each node at the start, by its place in `nodes`."""

    @property
    @override
    def conninfo(self) -> str:
        return self.nodes[0].dsn.conninfo

    async def move(self, admin: Administrator, owners: Collection[UUID] = ()) -> Move:
        """Moves a random shard to the other worker, while it is written; one of these owners, if there are any."""
        owner = random.choice([*owners]) if owners else None
        condition, values = (f" AND shardid = {_SHARD}", (owner,)) if owner else ("", ())
        [(shard, *place)] = await admin.query(f"{_SHARDS}{condition} ORDER BY random() LIMIT 1", *values)
        source = self._number(place)
        target = NODES - source
        query = "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s, 'force_logical')"
        await admin.query(query, shard, *self.nodes[source].address, *self.nodes[target].address)
        return Move(shard, source, target)

    async def shards(self, admin: Administrator) -> dict[int, int]:
        """The number of shards of the tasks at each node."""
        counts: defaultdict[int, int] = defaultdict(int)
        for _, *place in await admin.query(_SHARDS):
            counts[self._number(place)] += 1
        return counts

    def _number(self, place: list[object]) -> int:
        return next(number for number, node in enumerate(self.nodes) if [*node.address] == place)


@asynccontextmanager
async def spread(
    run: Run,
    result: Result,
    *,
    known: int = NODES,
    users: int = USERS,
    workers: int = 2,
    pool_max: int = 8,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Spread]:
    """Makes a database, spreads it over the nodes that its coordinator knows, and serves it through the coordinator.

    Each node with shards has as many of the users. All nodes run again at the end. Everything is checked after the
    block (`Service.conclude`). Raises `Skipped` without a cluster.
    """
    if not (servers := await asyncio.to_thread(citus.servers)):
        raise Skipped(citus.MISSING)
    async with AsyncExitStack() as stack:
        dsns = await enter(stack, citus.new_database(servers[:NODES], known))
        await asyncio.to_thread(migrator.migrate, dsns[0])
        await asyncio.to_thread(distribution.distribute, dsns[0])
        role = await enter(stack, citus.new_role(dsns[0]))
        await asyncio.to_thread(grants.grant, dsns[0], role)
        nodes = [await enter(stack, await asyncio.to_thread(Node, dsn)) for dsn in dsns]
        # A write that was prepared when its worker ended keeps the lock on its owner for so long.
        await asyncio.to_thread(nodes[0].configure, "citus.recover_2pc_interval", "1s")
        owners = await asyncio.to_thread(_make_users, nodes[:known], users)
        host, port = nodes[0].address
        variables = production(f"postgresql://{role}@{host}:{port}/{dsns[0].database}", pool_max) | {**(settings or {})}
        web = await enter(stack, WebServer(run.folder, variables, "--workers", str(workers)))
        watch = await enter(stack, Watch(dsns[0].conninfo))
        started = Spread(
            result=result,
            web=web,
            watch=watch,
            # One of each node after the other.
            users=[*chain.from_iterable(zip(*owners.values(), strict=True))],
            workers=workers,
            pool_max=pool_max,
            limit=workers * pool_max,
            database_ports={port},
            nodes=nodes,
            owners=owners,
        )
        async with concluding(started) as env:
            yield env


def _make_users(nodes: list[Node], number: int) -> dict[int, list[UUID]]:
    """Makes equally many users whose tasks will be at each of the workers."""
    owners: dict[int, list[UUID]] = {place: [] for place in range(1, len(nodes))}
    each = number // len(owners)
    places = {node.address: place for place, node in enumerate(nodes)}
    with psycopg.connect(nodes[0].dsn.conninfo, autocommit=True) as connection:
        while any(len(users) < each for users in owners.values()):
            [place] = connection.execute(_PLACE.encode(), [user := uuid4()]).fetchall()
            if len(users := owners[places[place]]) < each:
                connection.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user, f"{user}@example.com"])
                users.append(user)
    return owners
