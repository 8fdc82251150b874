"""nginx and Caddy as in deploy/, with a certificate of the test's own, in front of a real server."""

import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from persistence.postgres.dsn import Dsn
from tests.deploy.files import DEPLOY, program, replaced
from tests.faults.certificates import Authority, Certificate
from tests.support.processes import free_port
from tests.support.servers import eventually
from tests.support.sites import Site, running_site

pytestmark = pytest.mark.slow

HOST = "todo.example.com"
NGINX = """
%s daemon off; pid nginx.pid; error_log stderr; events {}
http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    gzip on; gzip_proxied any; gzip_types application/json; gzip_min_length 20;
    %s
}
"""
CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"


@dataclass(frozen=True)
class Proxy:
    name: str
    port: int
    plain: int
    """The port for HTTP without TLS, if it has one."""
    context: ssl.SSLContext

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        given = {"Host": HOST, "Accept-Encoding": "gzip", **(headers or {})}
        with httpx.Client(verify=self.context, timeout=60, trust_env=False) as client:
            url = f"https://127.0.0.1:{self.port}{path}"
            return client.request(method, url, headers=given, extensions={"sni_hostname": HOST}, **body)


@pytest.fixture(scope="module")
def site(dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(dsn, tmp_path_factory.mktemp("web"), "--workers", "1") as site:
        yield site


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    name = str(request.param)
    program(name)
    folder = tmp_path_factory.mktemp(name)
    authority = Authority(folder, "authority")
    context = ssl.create_default_context(cafile=authority.file)
    # The authority of the tests names no purpose of its key.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    start = {"nginx": nginx, "caddy": caddy}[name]
    with start(folder, authority.sign("site", HOST), site.web.port, context) as proxy:
        eventually(lambda: answers(proxy), 20)
        yield proxy


@contextmanager
def nginx(folder: Path, certificate: Certificate, server: int, context: ssl.SSLContext) -> Iterator[Proxy]:
    port, plain = free_port(), free_port()
    settings = replaced(
        DEPLOY / "nginx" / "todo.conf",
        {
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen [::]:80;": "",
            "listen 443": f"listen 127.0.0.1:{port}",
            "listen [::]:443 ssl http2;": "",
            "127.0.0.1:8000": f"127.0.0.1:{server}",
            "/etc/todo/tls/fullchain.pem": certificate.file,
            "/etc/todo/tls/privkey.pem": certificate.key,
        },
    )
    file = folder / "nginx.conf"
    # Its workers could not write below the folder of a test that runs as root.
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(NGINX % (user, settings), encoding="utf-8")
    with running([program("nginx"), "-p", folder, "-c", file], folder):
        yield Proxy("nginx", port, plain, context)


@contextmanager
def caddy(folder: Path, certificate: Certificate, server: int, context: ssl.SSLContext) -> Iterator[Proxy]:
    port = free_port()
    tls = f"\tbind 127.0.0.1\n\ttls {certificate.file} {certificate.key}"
    settings = replaced(
        DEPLOY / "caddy" / "Caddyfile",
        {f"\n{HOST} {{": f"\n{HOST}:{port} {{\n{tls}", "127.0.0.1:8000": f"127.0.0.1:{server}"},
    )
    file = folder / "Caddyfile"
    file.write_text(CADDY + settings, encoding="utf-8")
    with running([program("caddy"), "run", "--config", file, "--adapter", "caddyfile"], folder):
        yield Proxy("caddy", port, 0, context)


@contextmanager
def running(command: list[object], folder: Path) -> Iterator[None]:
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with subprocess.Popen([str(each) for each in command], cwd=folder, env=environment) as process:
        try:
            yield
        finally:
            process.terminate()


def answers(proxy: Proxy) -> bool:
    try:
        return proxy.request("GET", "/api/v1/live").status_code == 200
    except httpx.TransportError:
        return False


def test_a_change_of_what_was_read_is_made(proxy: Proxy, site: Site) -> None:
    tasks = f"/api{site.tasks}"
    task = proxy.request("POST", tasks, json={"title": "x" * 200}).json()

    read = proxy.request("GET", f"{tasks}/{task['id']}")
    written = proxy.request("PATCH", f"{tasks}/{task['id']}", {"If-Match": read.headers["ETag"]}, json={"title": "y"})

    assert read.headers["ETag"] == f'"{task["version"]}"'
    assert "Content-Encoding" not in read.headers
    assert written.status_code == 200, written.text


def test_browsers_are_told_to_stay_with_https(proxy: Proxy, site: Site) -> None:
    for path, status in ((f"/api{site.tasks}", 200), ("/api/nothing", 404)):
        response = proxy.request("GET", path)

        assert response.status_code == status
        assert response.headers.get_list("Strict-Transport-Security") == ["max-age=31536000"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Request-ID", "from-the-client"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ],
)
def test_what_tells_requests_apart_passes_both_ways(proxy: Proxy, name: str, value: str) -> None:
    response = proxy.request("GET", "/api/v1/live", {name: value})

    assert response.headers.get_list(name) == [value]


def test_a_large_body_is_refused_by_the_server(proxy: Proxy, site: Site) -> None:
    form = {"Content-Type": "application/json"}
    response = proxy.request("POST", f"/api{site.tasks}", form, content=b" " * 100_000)

    assert (response.status_code, response.headers["Content-Type"]) == (413, "application/problem+json")


def test_the_page_of_the_api_comes_through_and_nothing_outside_of_the_api(proxy: Proxy) -> None:
    loaded = re.findall(r'(?:href|src)="(/[^"]+)"', proxy.request("GET", "/api/docs").text)

    assert {proxy.request("GET", path).status_code for path in loaded} == {200}
    assert {proxy.request("GET", path).status_code for path in ("/", "/metrics")} == {404}


def test_plain_http_is_led_to_https(proxy: Proxy) -> None:
    if proxy.name == "caddy":
        pytest.skip("it does so by itself, on port 80")
    response = httpx.get(f"http://127.0.0.1:{proxy.plain}/api/v1/live?a=b", headers={"Host": HOST}, trust_env=False)

    assert (response.status_code, response.headers["Location"]) == (308, f"https://{HOST}/api/v1/live?a=b")
