"""An authority of the test's own, and what it signs: good certificates, expired ones, some for another host."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.faults.matrix import Skipped

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """Files in PEM; whoever holds the key can show the certificate."""

    file: Path
    key: Path


class Authority:
    """Signs certificates; `file` is what those must trust who are to accept them. Raises `Skipped` without openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        if not shutil.which("openssl"):
            raise Skipped("there is no `openssl` to make certificates with")
        self._folder = folder
        self._own = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(
            "req", "-x509", *_NEW_KEY, "-days", "2", "-subj", f"/CN={name}",
            "-keyout", self._own.key, "-out", self._own.file,
        )  # fmt: skip

    @property
    def file(self) -> Path:
        return self._own.file

    def sign(self, name: str, *hosts: str, days: int = 2) -> Certificate:
        """A certificate for hosts by their DNS names; with `days` of -1 it expired a day ago."""
        signed = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request = signed.file.with_suffix(".csr")
        names = ",".join(f"DNS:{host}" for host in hosts)
        _openssl(
            "req", "-new", *_NEW_KEY, "-subj", f"/CN={hosts[0]}", "-addext", f"subjectAltName={names}",
            "-keyout", signed.key, "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self._own.file, "-CAkey", self._own.key, "-copy_extensions", "copy",
            "-days", str(days), "-out", signed.file,
        )  # fmt: skip
        return signed


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
