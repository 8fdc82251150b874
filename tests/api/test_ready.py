"""The probe that tells if a process should get requests. `tests/server/test_stops.py` has it in a stop."""

from identity.key_store import Pace
from identity.verifier import open_verifier
from persistence import migrator
from persistence.postgres.database import Database, open_database
from persistence.postgres.dsn import Dsn
from tests.conftest import client_of
from tests.support.helpers import Client, Json, lost_database, rules_of
from tests.support.issuer import Issuer
from tests.support.nodes import without_nodes

READY = {
    "status": "ready", "database": "connected", "migration": "up-to-date", "keys": "not-needed", "stopping": False,
}  # fmt: skip


async def ready(client: Client) -> Json:
    response = await client.get("v1/ready")
    data: Json = response.json()["data"]
    assert response.status_code == response.json()["status_code"] == (200 if data["status"] == "ready" else 503)
    return without_nodes(data)


async def test_a_process_that_can_serve_is_ready(client: Client) -> None:
    assert await ready(client) == READY


async def test_it_is_not_ready_without_a_database_that_all_statements_can_run_on(
    server: Dsn, empty_dsn: Dsn, migrated_dsn: Dsn
) -> None:
    async with open_database(empty_dsn) as database, client_of(database) as client:
        assert await ready(client) == READY | {"status": "not-ready", "database": "unusable", "migration": "behind"}
        migrator.migrate(empty_dsn)
        assert await ready(client) == READY
    async with lost_database(server, migrated_dsn) as database, client_of(database) as client:
        lost = {"status": "not-ready", "database": "disconnected", "migration": "unknown"}
        assert await ready(client) == READY | lost


async def test_it_is_not_ready_until_keys_have_been_fetched_and_stays_so_when_no_more_can_be(
    database: Database,
) -> None:
    with Issuer() as issuer:
        issuer.fault = "refused"
        pace = Pace(first=0.01, longest=0.01, refresh=0.05)
        async with open_verifier(rules_of(issuer), 30, pace) as verifier, client_of(database, verifier) as client:
            assert await ready(client) == READY | {"status": "not-ready", "keys": "unknown"}
            issuer.fault = None
            while (found := await ready(client))["status"] != "ready":
                pass
            assert found == READY | {"keys": "known"}
            issuer.fault = "500"
            before = issuer.fetches
            while issuer.fetches < before + 2:
                assert await ready(client) == READY | {"keys": "known"}


async def test_from_a_stop_on_it_is_not_ready_and_asks_no_database(server: Dsn, empty_dsn: Dsn) -> None:
    stopping = {"status": "not-ready", "database": "unknown", "migration": "unknown", "stopping": True}
    async with lost_database(server, empty_dsn) as database, client_of(database, is_stopping=lambda: True) as client:
        assert await ready(client) == READY | stopping
        assert (await client.get("v1/live")).status_code == 200
