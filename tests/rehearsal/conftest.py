"""One machine on which docs/operations.md is done, by the values and the certificate of this rehearsal.

`REHEARSAL_KEEP=1` keeps the machine, and the next run goes on with it: it asks, and installs nothing.
`REHEARSAL_RECORD=1` writes into the page what the commands have printed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from tests.faults.certificates import Authority
from tests.rehearsal import page
from tests.rehearsal.machine import Machine, Shell
from tests.rehearsal.outside import Outside
from tests.support.issuer import SigningKey
from tests.support.podman import missing
from tests.support.servers import ROOT

DOMAIN, ISSUER, AUDIENCE = "todo.example.com", "https://www.example.com", "https://www.example.com"
_PATIENCE = 90.0
"""Seconds after which a command has to print what the page shows. Prometheus asks every 15 seconds."""
_ISSUER = """
[Service]
ExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 --directory /rehearsal/issuer 8400
[Install]
WantedBy=multi-user.target
"""
"""Stands for the issuer's server, which is elsewhere."""
_SETTINGS = (
    "/etc/pip.conf",
    f"{Path.home()}/.config/pip/pip.conf",
    f"{Path.home()}/.pip/pip.conf",
    f"{Path.home()}/.config/uv/uv.toml",
    "/etc/uv/uv.toml",
)


@dataclass
class Rehearsal:
    """The machine, and what the test has in hand for it."""

    machine: Machine
    outside: Outside
    repository: "Repository"
    printed: list[tuple[page.Step, str]] = field(default_factory=list)

    @property
    def values(self) -> dict[str, str]:
        """The values of the variables that the page asks the reader for."""
        return {
            "DOMAIN": DOMAIN,
            "CERTIFICATES": "/rehearsal/tls",
            "AUTH_ISSUER": ISSUER,
            "AUTH_AUDIENCE": AUDIENCE,
            "AUTH_JWKS_URL": "http://127.0.0.1:8400/jwks.json",
            "REPOSITORY": "/rehearsal/todo.git",
            "VERSION": self.repository.version,
            "TOKEN": self.outside.token(),
            "DUMP": "$(ls /var/backups/todo/*.dump)",
        }

    def do(self, section: str) -> None:
        """Types what stands under this heading, in a shell of its own, and looks at what is printed."""
        with Shell(self.machine) as shell:
            for step in page.steps(section):
                sys.stderr.write(f"\n{step.heading}: {step.command.strip().splitlines()[0][:90]}")
                command = page.with_values(step.command, self.values)
                if step.shown is None:
                    shell.type(command)
                else:
                    self._compare(step, shell, command)

    def _compare(self, step: page.Step, shell: Shell, command: str) -> None:
        assert step.shown is not None
        over = time.monotonic() + _PATIENCE
        while True:
            # It may fail because it is too early.
            output = shell.type(f"{{ {command}\n}} || :")
            is_like = page.is_like(output, step.shown)
            if is_like or time.monotonic() > over:
                break
            time.sleep(1)
        self.printed.append((step, output))
        assert is_like or _is_set("RECORD"), f"{command}\nprinted:\n{output}\nand the page shows:\n{step.shown}"


class Repository:
    """A repository of the project as it is now, and of a version after it, which the machine can clone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = "v1.0.0"

    def make(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)
        self._git("init", "--quiet")
        self._release()

    def change(self, version: str, files: dict[str, str]) -> None:
        """Releases a version in which these files have this content."""
        for name, content in files.items():
            (self.folder / name).write_text(content)
        self.version = version
        self._release()

    def _release(self) -> None:
        self._git("add", "--all")
        author = ("-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@example.com")
        self._git(*author, "commit", "--quiet", "-m", self.version)
        self._git("tag", self.version)

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True)


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A machine on which everything under "From nothing to production" has been done."""
    if reason := missing():
        pytest.skip(reason)
    kept = _is_set("KEEP")
    folder = Path("/tmp/todo-rehearsal") if kept else tmp_path_factory.mktemp("rehearsal")  # noqa: S108 - it is root's
    folder.mkdir(exist_ok=True)
    machine = Machine("todo-rehearsal" if kept else f"todo-rehearsal-{os.getpid()}", folder)
    is_new = not (kept and machine.exists)
    try:
        made = _made(machine) if is_new else _again(machine)
        try:
            if is_new:
                made.do(page.START)
            yield made
        finally:
            made.outside.client.close()
            if _is_set("RECORD"):
                page.record(made.printed)
    finally:
        if not kept:
            machine.remove()
            # The machine's user ids mean nothing here.
            shutil.rmtree(folder, ignore_errors=True)


def _made(machine: Machine) -> Rehearsal:
    folder = machine.folder
    authority = Authority(folder, "authority")
    certificate = authority.sign("server", DOMAIN)
    (folder / "tls").mkdir()
    shutil.copy(certificate.file, folder / "tls/fullchain.pem")
    shutil.copy(certificate.key, folder / "tls/privkey.pem")
    key = SigningKey()
    (folder / "issuer").mkdir()
    (folder / "issuer/jwks.json").write_bytes(orjson.dumps({"keys": [key.jwk]}))
    (folder / "todo.git").mkdir()
    repository = Repository(folder / "todo.git")
    repository.make()
    (folder / "issuer.service").write_text(_ISSUER)
    environment, mounts = _ways_to_packages(folder, authority.file)
    machine.start({DOMAIN: "127.0.0.1"}, environment, mounts)
    machine.run("cp /rehearsal/issuer.service /etc/systemd/system/ && systemctl enable --now issuer")
    return _rehearsal(machine, key, repository)


def _again(machine: Machine) -> Rehearsal:
    # Its keys are gone with the process that made them, so new ones are published, which the server fetches.
    key = SigningKey()
    (machine.folder / "issuer/jwks.json").write_bytes(orjson.dumps({"keys": [key.jwk]}))
    return _rehearsal(machine, key, Repository(machine.folder / "todo.git"))


def _rehearsal(machine: Machine, key: SigningKey, repository: Repository) -> Rehearsal:
    outside = Outside(machine.address, DOMAIN, machine.folder / "authority.pem", key, ISSUER, AUDIENCE)
    return Rehearsal(machine, outside, repository)


def _ways_to_packages(folder: Path, authority: Path) -> tuple[dict[str, str], list[Path]]:
    """What says on this machine where pip and uv find packages, for the other one: variables, files and folders."""
    ours = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_")) or "proxy" in name.lower()
    }
    files = [file for file in map(Path, _SETTINGS) if file.is_file()]
    words = " ".join((*ours.values(), *(file.read_text() for file in files))).split()
    paths = {Path(word.removeprefix("file://")) for word in words if word.startswith(("/", "file:///"))}
    # Both trust the certificates of this machine, and curl that of the rehearsal, too.
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    (folder / "trusted.pem").write_text(bundle.read_text() + authority.read_text())
    trusted = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/rehearsal/trusted.pem")
    return ours | trusted, [*files, *(path for path in paths if path.is_dir())]


def _is_set(name: str) -> bool:
    return bool(os.environ.get(f"REHEARSAL_{name}"))
