"""What is somebody else's costs what does not exist costs, so that a clock cannot tell them.

No times here: what PostgreSQL reads, and that its replies are the same, so that nothing after them can differ. A row of
`make chaos` holds a clock against it.
"""

from collections import Counter
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import tasks
from persistence.database import Database
from persistence.statement import Statement
from tests.conftest import client_of
from tests.fuzz.timing import BLOCK, Comparison
from tests.helpers import address, make_task
from tests.test_plans import OWNER, PLANS, connection, explain  # noqa: F401 - `connection` is a fixture
from tests.test_wire import Wire, watched, wire  # noqa: F401 - both are fixtures

type Request = tuple[str, bytes | None, dict[str, str]]

IDS = 40
REQUESTS: list[Request] = [
    ("GET", None, {}),
    ("GET", None, {"If-None-Match": '"1"'}),
    ("PUT", b'{"title": "Mine now"}', {}),
    ("PUT", b'{"title": "Mine now"}', {"If-Match": '"1"'}),
    ("PATCH", b'{"title": "Mine now"}', {}),
    ("PATCH", b'{"title": "Mine now"}', {"If-Match": '"1"'}),
    ("PATCH", b"{}", {}),
    ("DELETE", None, {}),
    ("DELETE", None, {"If-Match": '"1"'}),
]
each_request = pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: " ".join((request[0], *request[2])))


def _name(statement: Statement[Any]) -> str:
    return statement.text.split(" ", 1)[0]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("statement", [tasks.GET, tasks.REPLACE, tasks.PATCH, tasks.DELETE], ids=_name)
def test_postgresql_reads_as_much_for_somebody_elses_task_as_for_none(
    connection: psycopg.Connection,  # noqa: F811 - the fixture
    statement: Statement[Any],
    plan: str,
) -> None:
    theirs = connection.execute("SELECT id FROM tasks WHERE user_id <> %s LIMIT %s", [OWNER, IDS]).fetchall()

    def usual(ids: list[UUID]) -> tuple[int, int, int]:
        """The pages and rows that one run reads. A missing id may stand at the edge of a page, which reads another."""
        found = [explain(connection, statement, plan, task_id=task) for task in ids]
        return Counter((each.pages, each.read, each.removed) for each in found).most_common(1)[0][0]

    assert usual([task for (task,) in theirs]) == usual([uuid4() for _ in range(IDS)])


@each_request
async def test_the_same_messages_go_to_the_database_and_back(
    watched: Database,  # noqa: F811 - the fixture
    wire: Wire,  # noqa: F811 - the fixture
    alice: UUID,
    bob: UUID,
    request_: Request,
) -> None:
    method, body, headers = request_
    async with client_of(watched) as client:
        theirs = address(await make_task(client, bob)).replace(str(bob), str(alice))

        async def messages(path: str) -> tuple[list[tuple[str, int]], list[str]]:
            wire.reset()
            content_type = {"Content-Type": "application/json"} if body else {}
            answer = await client.request(method, path, content=body, headers=headers | content_type)
            assert answer.status_code == 404
            return [(kind, len(content)) for kind, content in wire.sent], list(wire.received)

        for _ in range(12):
            # Statements are prepared on the way.
            await messages(f"{alice}/tasks/{uuid4()}")
        assert await messages(theirs) == await messages(f"{alice}/tasks/{uuid4()}")


def test_a_difference_of_time_is_noticed() -> None:
    random = Random(1)  # noqa: S311 - no secret
    kinds = [[random.lognormvariate(0, 1) for _ in range(40 * BLOCK)] for _ in range(2)]
    same = Comparison(*kinds)
    slower = Comparison([value + 0.2 for value in kinds[0]], kinds[1])

    assert same.interval[0] < 0.5 < same.interval[1]
    assert slower.interval[0] > 0.52
