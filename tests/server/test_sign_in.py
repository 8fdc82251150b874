"""Sign-in by the real server: every worker has keys of its own, and no token is too much for it."""

from pathlib import Path
from uuid import uuid4

import httpx

from persistence.postgres.dsn import Dsn
from tests.support.issuer import Issuer
from tests.support.servers import eventually
from tests.support.sites import WORKERS, production


def test_every_worker_takes_good_tokens_and_refuses_others(dsn: Dsn, tmp_path: Path) -> None:
    with Issuer() as issuer, production(dsn, tmp_path, issuer=issuer) as web:
        eventually(lambda: issuer.fetches == WORKERS)
        user = uuid4()
        good = {"Authorization": f"Bearer {issuer.token(user)}"}
        path = f"/{user}/tasks"

        # Each request comes on a connection of its own, so that both workers get some.
        assert {web.http.get(path, headers=good).status_code for _ in range(20)} == {200}
        assert {web.http.get(path).status_code for _ in range(20)} == {401}
        assert issuer.fetches == WORKERS
        too_long = {"Authorization": f"Bearer {issuer.token(user, image='x' * 20_000)}"}
        refused = httpx.get(f"{web.url}/api{path}", headers=too_long, trust_env=False)
    assert (refused.status_code, refused.json()["type"]) == (431, "urn:problem:todo:head-too-large")
    assert "ERROR" not in web.log
    assert good["Authorization"].partition(" ")[2] not in web.log
