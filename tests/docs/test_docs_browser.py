"""The interactive documentation in a real browser, which can reach no host but ours."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.browser import Browser, browser, is_installed
from tests.support.issuer import Issuer
from tests.support.servers import WebServer
from tests.support.sites import production

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="not installed: chromium, chromium-driver"),
]

HOST = "todo.example"  # Swagger UI takes a name such as localhost for a developer's machine and does less there.


@pytest.fixture
def web(dsn: Dsn, tmp_path: Path) -> Iterator[WebServer]:
    with production(dsn, tmp_path, "--workers", "1") as web:
        yield web


@pytest.fixture
def page(web: WebServer, tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path, HOST) as page:
        page.open(f"http://{HOST}:{web.port}/api/docs")
        yield page


def test_every_operation_is_shown_and_no_other_host_is_asked(web: WebServer, page: Browser) -> None:
    paths = web.http.get("/openapi.json").json()["paths"]

    page.click(".opblock-summary-control")

    methods, shown = page.texts(".opblock-summary-method"), page.texts(".opblock-summary-path")
    assert {(method.lower(), path.replace("\u200b", "")) for method, path in zip(methods, shown, strict=True)} == {
        (method, path) for path, operations in paths.items() for method in operations
    }
    assert "Errors" not in page.texts("h4")
    assert page.complaints() == []
    requests = page.requests()
    assert f"http://{HOST}:{web.port}/api/openapi.json" in requests
    assert {url: end for url, end in requests.items() if end != 200 or not url.startswith(f"http://{HOST}")} == {}


def test_the_proposal_of_the_page_creates_a_task(web: WebServer, page: Browser, alice: UUID) -> None:
    page.click("#operations-tasks-create_task .opblock-summary-control")
    page.fill("[data-param-name=user_id] input", str(alice))
    [proposed] = page.values(".body-param__text")

    page.click(".execute")

    assert page.texts(".live-responses-table .response .response-col_status") == ["201"]
    [task] = web.http.get(f"/{alice}/tasks").json()["items"]
    assert json.loads(proposed).items() <= task.items()
    assert page.complaints() == []


def test_the_authorize_button_takes_a_token_and_sends_it(dsn: Dsn, tmp_path: Path) -> None:
    user = uuid4()
    with (
        Issuer() as issuer,
        production(dsn, tmp_path, "--workers", "1", issuer=issuer) as web,
        browser(tmp_path, HOST) as page,
    ):
        page.open(f"http://{HOST}:{web.port}/api/docs")
        page.click(".auth-wrapper .authorize")
        page.fill(".auth-container input", issuer.token(user))
        page.click(".auth-btn-wrapper .authorize")
        page.click(".btn-done")
        page.click("#operations-account-get_account .opblock-summary-control")
        page.click(".execute")

        assert page.texts(".live-responses-table .response .response-col_status") == ["200"]
        assert str(user) in "".join(page.texts(".live-responses-table .response-col_description .microlight"))
