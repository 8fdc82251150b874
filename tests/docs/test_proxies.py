"""The proxies of the documentation, with its settings: entity tags and the page of the API come through as they are."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from persistence.postgres.dsn import Dsn
from tests.docs.pages import DOCS, section
from tests.support.processes import free_port
from tests.support.servers import eventually
from tests.support.sites import Site, running_site

pytestmark = pytest.mark.slow

NGINX = """
daemon off; pid nginx.pid; error_log stderr; events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
    scgi_temp_path s; gzip on; gzip_proxied any; gzip_types application/json; gzip_min_length 20;
    server { listen 127.0.0.1:%d; %s }
}
"""
APACHE = """
ServerRoot %s
PidFile apache.pid
ErrorLog /dev/stderr
ServerName localhost
User nobody
Group nogroup
Listen 127.0.0.1:%d
%s
SetOutputFilter DEFLATE
%s
"""
MODULES = Path("/usr/lib/apache2/modules")
NEEDED = ("mpm_event", "authz_core", "proxy", "proxy_http", "filter", "deflate", "headers")


@pytest.fixture(scope="module")
def site(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(dsn, tmp_path_factory.mktemp("web"), "--workers", "1") as site:
        yield site


def documented(language: str, site: Site) -> str:
    page = section(DOCS / "operations.md", "Behind a proxy")
    block = re.search(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block
    return block[1].replace("127.0.0.1:8000", f"127.0.0.1:{site.web.port}")


@contextmanager
def proxy(language: str, settings: str, folder: Path) -> Iterator[str]:
    """The proxy with these settings, and with compression of JSON for everything; its address."""
    program = {"nginx": "nginx", "apache": "apache2"}[language]
    if not shutil.which(program):
        pytest.skip(f"not installed: {program}")
    port, file = free_port(), folder / "proxy.conf"
    if language == "nginx":
        file.write_text(NGINX % (port, settings))
        command = ["nginx", "-p", str(folder), "-c", str(file)]
    else:
        modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in NEEDED)
        file.write_text(APACHE % (folder, port, modules, settings))
        command = ["apache2", "-f", str(file), "-DFOREGROUND"]
    with subprocess.Popen(command) as process:
        try:
            eventually(lambda: answers(f"http://127.0.0.1:{port}/api/v1/live"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def change_of_what_was_read(url: str, site: Site) -> tuple[httpx.Response, httpx.Response]:
    tasks = f"{url}/api{site.tasks}"
    with httpx.Client(headers={"Accept-Encoding": "gzip"}) as client:
        task = client.post(tasks, json={"title": "x" * 200}).json()
        read = client.get(f"{tasks}/{task['id']}")
        return read, client.patch(str(read.url), json={"title": "y"}, headers={"If-Match": read.headers["ETag"]})


@pytest.mark.parametrize("language", ["nginx", "apache"])
def test_a_change_through_the_proxy_that_is_configured_so_is_made(language: str, site: Site, tmp_path: Path) -> None:
    with proxy(language, documented(language, site), tmp_path) as url:
        read, written = change_of_what_was_read(url, site)

    assert read.headers["ETag"] == f'"{read.json()["version"]}"'
    assert written.status_code == 200


@pytest.mark.parametrize("language", ["nginx", "apache"])
def test_all_that_the_page_of_the_api_loads_comes_through_the_proxy(language: str, site: Site, tmp_path: Path) -> None:
    with proxy(language, documented(language, site), tmp_path) as url:
        loaded = re.findall(r'(?:href|src)="(/[^"]+)"', httpx.get(f"{url}/api/docs").text)
        statuses = {path: httpx.get(url + path).status_code for path in loaded}

    assert {Path(path).suffix for path in loaded} >= {".js", ".css"}
    assert set(statuses.values()) == {200}, statuses


@pytest.mark.parametrize(("language", "setting"), [("nginx", "gzip off;"), ("apache", "DeflateAlterETag NoChange")])
def test_a_change_through_another_one_is_refused_and_says_why(
    language: str, setting: str, site: Site, tmp_path: Path
) -> None:
    with proxy(language, documented(language, site).replace(setting, ""), tmp_path) as url:
        read, written = change_of_what_was_read(url, site)

    assert read.headers["ETag"] != f'"{read.json()["version"]}"'
    assert written.status_code == 412
    assert "proxy" in written.json()["detail"]
