"""The nodes of a given cluster run again whatever was done to them, and their logs are read as one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.faults.http import Http
from tests.faults.matrix import Result, Run, Skipped
from tests.faults.spread import Spread, spread
from tests.support import citus
from tests.support.citus import Node
from tests.support.databases import execute
from tests.sync.commits import SpreadCommits


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Spread]:
    try:
        async with spread(Run(tmp_path), Result(), workers=1) as env:
            yield env
    except Skipped as reason:
        pytest.skip(str(reason))


def setting(node: Node) -> object:
    with psycopg.connect(node.dsn.conninfo) as connection:
        return connection.execute("SHOW vacuum_cost_limit").fetchall()


async def test_a_node_that_was_killed_stopped_or_frozen_runs_at_the_end_as_before(env: Spread) -> None:
    before = setting(env.nodes[1])
    for harm in (Node.kill, Node.stop, Node.freeze):
        with Node(env.nodes[1].dsn) as node:
            node.configure("vacuum_cost_limit", "123")
            harm(node)
        assert setting(node) == before


async def test_the_users_are_at_the_workers_that_have_their_shards(env: Spread) -> None:
    assert {place: len(users) for place, users in env.owners.items()} == {1: 4, 2: 4}
    await asyncio.to_thread(env.nodes[1].stop)
    http = Http(env.web.port)
    statuses = [(await http.request("GET", f"/api/{user}/tasks")).status for user in env.users]
    http.close()
    await asyncio.to_thread(env.nodes[1].start)
    assert statuses == [503, 200] * 4


async def test_each_version_of_a_task_is_read_once_and_in_order_while_its_shard_moves(env: Spread) -> None:
    user, task = env.users[0], uuid4()

    def change(title: str) -> None:
        execute(env.nodes[0].dsn, f"UPDATE tasks SET title = '{title}', version = version + 1 WHERE user_id = '{user}'")

    execute(env.nodes[0].dsn, f"INSERT INTO tasks (id, user_id, title) VALUES ('{uuid4()}', '{user}', 'before')")
    commits = SpreadCommits([node.dsn.conninfo for node in env.nodes])
    try:
        async with env.administrator() as admin:
            execute(
                env.nodes[0].dsn,
                f"INSERT INTO tasks (id, user_id, title, version) VALUES ('{task}', '{user}', 'a', 1)",
            )
            for title in "bcd":
                change(title)
                move = await env.move(admin, [user])
                await asyncio.to_thread(commits.follow, move.source, move.target)
            change("e")
        titles = [change.row.title for change in commits.read() if change.row and change.id == task]
        assert titles == ["a", "b", "c", "d", "e"]
    finally:
        commits.close()


async def test_without_a_cluster_it_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(citus.VARIABLE, raising=False)
    with pytest.raises(Skipped, match="CITUS_TEST_URL"):
        async with spread(Run(tmp_path), Result()):
            pass
