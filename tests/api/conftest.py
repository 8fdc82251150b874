"""Fixtures of the tests of the API."""

from uuid import UUID

import pytest

from tests.support.helpers import Client, Json, make_task
from todos import health


@pytest.fixture(autouse=True)
def long_probe_timeout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the database take longer to answer a probe, so that a busy machine fails only a test that holds a clock."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(health, "DATABASE_TIMEOUT", 30.0)


@pytest.fixture
async def task(client: Client, alice: UUID) -> Json:
    """A task of Alice's."""
    return await make_task(client, alice)
