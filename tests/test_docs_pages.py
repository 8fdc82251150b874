"""The interactive documentation, which asks no other host for anything."""

import re
from html.parser import HTMLParser
from typing import override
from urllib.parse import urljoin

import httpx
import pytest

from tests.helpers import assert_problem
from todos.schemas import TaskOut


class _References(HTMLParser):
    """Collects what a browser would load for the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


async def _docs(client: httpx.AsyncClient) -> str:
    response = await client.get("docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    return response.text


async def test_the_page_names_no_other_host(client: httpx.AsyncClient) -> None:
    page = await _docs(client)

    assert "/api/openapi.json" in page
    assert not re.search(r"(https?:)?//\w", page)


async def test_everything_that_the_page_loads_is_served_here(client: httpx.AsyncClient) -> None:
    references = _References()
    references.feed(await _docs(client))

    assert {reference.rpartition(".")[2] for reference in references.found} >= {"js", "css"}
    for reference in references.found:
        assert reference.startswith("/")
        response = await client.get(urljoin("http://test", reference))
        assert response.status_code == 200, reference
        assert response.content
        assert "max-age" in response.headers["Cache-Control"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui-init.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("favicon.png", "image/png"),
    ],
)
async def test_a_browser_is_told_what_a_file_is(client: httpx.AsyncClient, name: str, content_type: str) -> None:
    response = await client.get(f"http://test/static/ninja/{name}")

    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == content_type


@pytest.mark.parametrize(
    "name", ["", "nope.js", "..", "%2e%2e%2f__init__.py", "../__init__.py", "%00", "%FF.js", "swagger-ui.css/", ".css"]
)
async def test_an_unknown_file_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert_problem(await client.get(f"http://test/static/ninja/{name}"), 404, "path-not-found")


async def test_the_description_is_json_and_names_every_operation(client: httpx.AsyncClient) -> None:
    response = await client.get("openapi.json")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    document = response.json()
    assert document["openapi"].startswith("3.")
    operations = {path: set(methods) for path, methods in document["paths"].items()}
    assert operations == {
        "/api/{user_id}/tasks": {"get", "post"},
        "/api/{user_id}/tasks/{task_id}": {"get", "put", "patch", "delete"},
        "/api/v1/health": {"get"},
        "/api/v1/live": {"get"},
    }


async def test_the_description_tells_what_a_task_is_made_of(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("openapi.json")).json()["components"]["schemas"]

    assert set(schemas["TaskOut"]["required"]) == set(TaskOut.model_fields)
    assert schemas["NewTask"]["required"] == ["title"]
    assert schemas["NewTask"]["properties"]["title"]["maxLength"] == 200
    assert "required" not in schemas["TaskChanges"]
    assert "password" not in str(schemas)


async def test_the_description_tells_which_problems_to_expect(client: httpx.AsyncClient) -> None:
    paths = (await client.get("openapi.json")).json()["paths"]
    create = paths["/api/{user_id}/tasks"]["post"]["responses"]
    change = paths["/api/{user_id}/tasks/{task_id}"]["patch"]["responses"]

    assert {"201", "400", "404", "408", "409", "413", "415", "500", "503"} <= set(create)
    assert {"200", "400", "404", "408", "413", "415", "500", "503"} <= set(change)


async def test_the_limits_of_a_list_are_described(client: httpx.AsyncClient) -> None:
    operation = (await client.get("openapi.json")).json()["paths"]["/api/{user_id}/tasks"]["get"]
    limit = next(parameter for parameter in operation["parameters"] if parameter["name"] == "limit")

    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 500, 100)
    assert {parameter["name"] for parameter in operation["parameters"]} == {"user_id", "limit", "cursor"}
