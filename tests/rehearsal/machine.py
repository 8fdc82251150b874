"""A fresh Debian 13 with systemd, in a container, as a person finds one that has just been installed.

What differs from a real one: the kernel is the host's, the network is a bridge of podman, apt-get and pip ask what this
machine asks, and the shell of root has no terminal.
"""

import subprocess
import threading
from pathlib import Path
from typing import Self

from tests.support.podman import ENVIRONMENT, base, podman

_FILE = """
ARG BASE
FROM $BASE
RUN echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/rehearsal
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
    dbus iproute2 procps systemd-sysv
"""
"""What Debian's installer installs, as far as the page needs it. dpkg does not wait for the disk at each file."""
_INIT = """
set -e
mkdir /tmp/cgroup
mount -t cgroup2 none /tmp/cgroup
mkdir -p /tmp/cgroup/rehearsal
echo $$ >/tmp/cgroup/rehearsal/cgroup.procs
umount /tmp/cgroup
rmdir /tmp/cgroup
umount -R /sys/fs/cgroup 2>/dev/null || :
exec unshare --cgroup sh -ec '
    mount --make-rshared /
    mount -t cgroup2 none /sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs /run
    exec env -i container=podman /lib/systemd/systemd'
"""
"""Starts systemd, which wants a tree of control groups of its own, also on a host that has them of version 1."""
_END = b"\x01"
_LOOP = """
exec 2>&1
set -eu -o pipefail
while IFS= read -r -d '' script; do
    eval "$script" </dev/null
    printf '\\1'
done
"""
"""Does what it is told in one shell, which ends at the first command that fails."""
_PATIENCE = 1200.0
"""Seconds that one step may take, with packages from afar."""


class Machine:
    """A machine by its name. `folder` is /rehearsal on it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def start(self, hosts: dict[str, str], environment: dict[str, str], mounts: list[Path]) -> None:
        (self.folder / "Containerfile").write_text(_FILE)
        image = podman(
            "build", "--quiet", f"--build-arg=BASE={base()}", f"--file={self.folder}/Containerfile", str(self.folder)
        ).stdout.strip()  # fmt: skip
        (self.folder / "init").write_text(_INIT)
        podman(
            "run", "--detach", f"--name={self.name}", "--hostname=server", "--systemd=false", "--stop-signal=37",
            "--cap-add=ALL", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
            *(f"--add-host={name}:{address}" for name, address in hosts.items()),
            *(f"--env={name}={value}" for name, value in environment.items()),
            f"--volume={self.folder}:/rehearsal:ro",
            *(f"--volume={path}:{path}:ro" for path in mounts),
            image, "sh", "/rehearsal/init",
        )  # fmt: skip
        self._wait()

    def restart(self) -> None:
        """As by `reboot`. The address may be another one afterwards."""
        podman("restart", "--time=30", self.name)
        self._wait()

    def _wait(self) -> None:
        self.run("until systemctl is-system-running | grep -E 'running|degraded'; do sleep 0.2; done")

    @property
    def exists(self) -> bool:
        return podman("container", "exists", self.name, check=False).returncode == 0

    @property
    def address(self) -> str:
        return podman("inspect", "--format={{.NetworkSettings.IPAddress}}", self.name).stdout.strip()

    def remove(self) -> None:
        podman("rm", "--force", "--time=10", self.name)

    def run(self, command: str) -> str:
        """What the command of root prints. Raises `AssertionError` if it fails."""
        return podman("exec", self.name, "bash", "-c", command).stdout


class Shell:
    """A shell of root, which keeps its variables from step to step."""

    def __init__(self, machine: Machine) -> None:
        self._process = subprocess.Popen(
            ["podman", "exec", "--interactive", machine.name, "bash", "-c", _LOOP],
            env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def type(self, script: str) -> str:
        """What the script prints. Raises `AssertionError` if a command of it fails."""
        assert self._process.stdin
        assert self._process.stdout
        alarm = threading.Timer(_PATIENCE, self._process.kill)
        alarm.daemon = True
        alarm.start()
        self._process.stdin.write(script.encode() + b"\0")
        self._process.stdin.flush()
        printed = b""
        while not printed.endswith(_END):
            byte = self._process.stdout.read(1)
            assert byte, f"failed: {script}\n{printed.decode(errors='replace')}"
            printed += byte
        alarm.cancel()
        return printed[: -len(_END)].decode(errors="replace")
