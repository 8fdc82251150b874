"""Every error is a problem document (RFC 9457), and none is HTML. `test_bodies.py` has those of bodies."""

from uuid import UUID, uuid4

import pytest

from tests.support.contract import OPERATIONS
from tests.support.helpers import Client, Json, assert_problem, call

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO")

OTHERS = ("/api/docs", "/api/openapi.json", "/api/static/ninja/swagger-ui.css")
ALLOWED: dict[str, set[str]] = {path: {"GET"} for path in OTHERS}
for _operation in OPERATIONS.values():
    ALLOWED[_operation.path] = ALLOWED.get(_operation.path, set()) | {_operation.method}

UNKNOWN = [
    "/", "/api", "/api/", "/api//", "/api/nope", "/api/v1", "/api/v1/", "/api/v1/nope", "/api/v1/health/", "/api/docs/",
    "/api/{user_id}", "/api/{user_id}/", "/api/{user_id}/Tasks", "/api/{user_id}/tasks/",
    "/api/{user_id}/tasks/{task_id}/", "/api/{user_id}/tasks/{task_id}/tags", "/api///tasks",
    "/api/static/ninja/%2e%2e/schema.py", "/static/", "/api/static/", "/admin/", "/%00", "/%FF", "/%F0%9F%98%80",
    "/<script>alert(1)</script>",
]  # fmt: skip


def url(path: str, task: Json) -> str:
    return "http://test" + path.format(user_id=task["user_id"], task_id=task["id"])


def listed(path: str) -> list[str]:
    """The methods of a path, as `Allow` has them."""
    return sorted({*ALLOWED[path], *(("HEAD",) if "GET" in ALLOWED[path] else ()), "OPTIONS"})


@pytest.mark.parametrize("path", UNKNOWN)
async def test_an_unknown_path_is_not_found(client: Client, task: Json, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        assert_problem(await client.request(method, url(path, task)), 404, "path-not-found")


async def test_a_slash_too_many_is_pointed_out(client: Client, task: Json) -> None:
    for path in ("/api/{user_id}/tasks/", "/api/{user_id}/tasks/?q=x", "/api/{user_id}/tasks/{task_id}/", "/admin/"):
        for method in ("GET", "POST", "PATCH"):
            problem = assert_problem(await client.request(method, url(path, task)), 404, "path-not-found")
            # Without the slash there may be nothing either.
            assert problem["detail"] == (
                "No resource has this path, and none has a slash at its end; /api/docs lists them all."
            )


@pytest.mark.parametrize("path", ALLOWED)
async def test_a_method_that_a_path_does_not_have_is_refused(client: Client, task: Json, path: str) -> None:
    for method in set(METHODS) - ALLOWED[path]:
        response = await client.request(method, url(path, task))

        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["Allow"].split(", ") == listed(path)


@pytest.mark.parametrize("path", ALLOWED)
async def test_options_tells_the_methods_of_a_path(client: Client, task: Json, path: str) -> None:
    response = await client.options(url(path, task))

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Allow"].split(", ") == listed(path)
    # RFC 5789, section 3.1.
    patch_types = "application/json, application/merge-patch+json" if "PATCH" in ALLOWED[path] else None
    assert response.headers.get("Accept-Patch") == patch_types
    assert not {"content-type", "content-length"} & response.headers.keys()


async def test_what_does_not_exist_is_not_found(client: Client, alice: UUID, task: Json) -> None:
    for user, task_id in ((alice, uuid4()), (uuid4(), task["id"]), (uuid4(), uuid4())):
        for operation in OPERATIONS.values():
            if operation.is_of_a_task:
                assert_problem(await call(client, operation, user, task_id), 404, "task-not-found")
        assert_problem(await client.patch(f"{user}/tasks/{task_id}", json={}), 404, "task-not-found")
