"""PostgreSQL, the server, clients of it and Prometheus, for one alarm."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from tests.alarms.page import Shell, supervisor
from tests.alarms.prometheus import Prometheus
from tests.faults.proxy import Proxy
from tests.support.databases import new_user
from tests.support.issuer import Issuer
from tests.support.processes import free_port
from tests.support.servers import PipedWebServer, PostgresServer

type Way = Literal["straight", "by a proxy", "both"]
"""How the server reaches PostgreSQL; both ways at once are two nodes to it."""

WORKERS = 2
SETTINGS = {
    "ENVIRONMENT": "production",
    "AUTH_MODE": "trusted",
    "REQUEST_TIMEOUT": "2",
    "DATABASE_POOL_MIN": "2",
    "DATABASE_POOL_MAX": "5",
    "WEB_CONCURRENCY": str(WORKERS),
}


@dataclass
class Stage:
    postgres: PostgresServer
    proxy: Proxy
    """Between the server and PostgreSQL, if the scenario has it there."""
    issuer: Issuer
    web: PipedWebServer
    prometheus: Prometheus
    shell: Shell
    actions: dict[str, Callable[[], object]]
    """What `systemctl` does, by its arguments."""
    token: str = ""
    clients: list[threading.Thread] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    tasks: str = ""

    def send(self, clients: int, method: str, path: str, pause: float = 0.1) -> None:
        """Sends requests from so many clients until the end, each so many seconds after the answer to its last one."""
        for _ in range(clients):
            self.clients.append(thread := threading.Thread(target=self._send, args=(method, path, pause), daemon=True))
            thread.start()

    def _send(self, method: str, path: str, pause: float) -> None:
        with httpx.Client(base_url=f"{self.web.url}/api", trust_env=False, timeout=30) as client:
            while not self.is_over.wait(pause):
                # The server may be down.
                with suppress(httpx.TransportError):
                    headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
                    body = {"title": "a task"} if method == "POST" else None
                    client.request(method, path, headers=headers, json=body)


@contextmanager
def stage(
    postgres: PostgresServer, folder: Path, settings: Mapping[str, str], *, signs_in: bool, way: Way
) -> Iterator[Stage]:
    """With `signs_in` users need tokens."""
    metrics = f"127.0.0.1:{free_port()}"
    user = new_user(postgres.dsn)
    actions: dict[str, Callable[[], object]] = {"start postgresql": postgres.start}
    with Proxy(postgres.port) as proxy, Issuer() as issuer, supervisor(actions) as address:
        port = proxy.port if way == "by a proxy" else postgres.port
        addresses = f"127.0.0.1:{port}" + (f",127.0.0.1:{proxy.port}" if way == "both" else "")
        direct = {"DATABASE_URL_DIRECT": postgres.url_of("postgres")}
        environment = {
            **SETTINGS,
            **(issuer.settings if signs_in else {}),
            "DATABASE_URL": postgres.url.replace(f"127.0.0.1:{postgres.port}", addresses),
            "METRICS_BIND": metrics,
            **settings,
        }
        with (
            PipedWebServer(folder, environment) as web,
            Prometheus(folder / "prometheus", metrics) as prometheus,
        ):
            variables = {
                "LOG": str(web._log),
                "SUPERVISOR": address,
                "PGHOST": "127.0.0.1",
                "PGPORT": str(postgres.port),
                "PGUSER": "postgres",
            }
            words = {
                "127.0.0.1:9464": metrics,
                "127.0.0.1:9090": f"127.0.0.1:{prometheus.port}",
                "127.0.0.1:8000": f"127.0.0.1:{web.port}",
                "127.0.0.1:5432": f"127.0.0.1:{port}",
                "127.0.0.1:5433": f"127.0.0.1:{proxy.port}",
                # As curl and libpq write them.
                " port 8000": f" port {web.port}",
                " port 5432": f" port {port}",
                "/etc/todo/todo.env": str(folder / "todo.env"),
            }
            (folder / "todo.env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
            shell = Shell(folder / "bin", {**environment, **direct, **variables}, words)
            found = Stage(postgres, proxy, issuer, web, prometheus, shell, actions)
            found.token = issuer.token(str(user)) if signs_in else ""
            found.tasks = f"/{user}/tasks"
            found.send(2, "POST", found.tasks)
            found.send(2, "GET", found.tasks)
            found.send(1, "GET", "/v1/health", pause=0.5)
            try:
                yield found
            finally:
                found.is_over.set()
                for thread in found.clients:
                    thread.join()
