"""The services of compose.yaml, by podman-compose, with images of this machine in place of those of registries."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support import podman as containers
from tests.support.podman import podman
from tests.support.processes import clean_environment
from tests.support.servers import ROOT, eventually

POSTGRES = "localhost/todo-postgres:test"
PGBOUNCER = "localhost/todo-pgbouncer:test"
ATTEMPTS = 5
"""podman 4.3 knows no names for a moment when a container starts or ends: beside 359 starts, 1 of 3,246 was unknown."""
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


@dataclass(frozen=True)
class Stack:
    """The services of compose.yaml, which podman-compose 1.6 starts one by one: podman 4.3 knows no conditions."""

    name: str
    override: Path
    port: int

    def compose(
        self, *arguments: str, check: bool = True, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, "-m", "podman_compose", "--env-file=/dev/null", "--profile=pgbouncer",
            "--profile=prometheus", f"--project-name={self.name}",
            f"--file={ROOT / 'compose.yaml'}", f"--file={self.override}", *arguments,
        ]  # fmt: skip
        environment = {**clean_environment(), **containers.ENVIRONMENT, "PORT": str(self.port), **(variables or {})}
        for _ in range(ATTEMPTS):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if "Name or service not known" not in done.stderr:
                break
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done

    def once(self, service: str) -> str:
        return self.compose("run", "--rm", "--no-deps", "-T", service).stdout

    def up(self, *services: str, **variables: str) -> None:
        self.compose("up", "--detach", "--no-deps", *services, variables=variables)

    def execute(self, service: str, *command: str) -> str:
        return self.compose("exec", "-T", service, *command).stdout

    def container(self, service: str) -> str:
        return f"{self.name}_{service}_1"

    def wait_for(self, service: str) -> None:
        """Waits until the service is healthy. There is no systemd here that would ask."""
        check = ("healthcheck", "run", self.container(service))
        eventually(lambda: podman(*check, check=False).returncode == 0)
