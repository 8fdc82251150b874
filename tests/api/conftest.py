"""Fixtures of the tests of the API."""

from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest

from identity.verifier import Verifier, open_verifier
from persistence.postgres.database import Database
from tests.conftest import client_of
from tests.support.helpers import Client, Json, make_task, rules_of
from tests.support.issuer import Issuer
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


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
async def verifier(issuer: Issuer) -> AsyncIterator[Verifier]:
    async with open_verifier(rules_of(issuer), 30) as verifier:
        # It waits for the keys, without which the server is not ready.
        await verifier.user_id(issuer.token(uuid4()))
        yield verifier


@pytest.fixture
async def guarded(database: Database, verifier: Verifier) -> AsyncIterator[Client]:
    """A client of the application that asks for tokens. It sends none until it is `signed_in`."""
    async with client_of(database, verifier) as client:
        yield client
