"""A certificate authority for tests, which signs good certificates, expired ones, and some for another host."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.faults.matrix import Skipped

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both in PEM."""

    file: Path
    key: Path


class Authority:
    """Signs certificates; a client that trusts `file` accepts them. Raises `Skipped` without openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        if not shutil.which("openssl"):
            raise Skipped("there is no `openssl` to make certificates with")
        self._folder = folder
        self.file, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-days", 2, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.file,
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def sign(self, name: str, host: str, days: int = 2) -> Certificate:
        """A certificate for a host by its DNS name; with `days` of -1 it expired a day ago."""
        signed = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request = signed.file.with_suffix(".csr")
        _openssl(
            "req", "-new", *_NEW_KEY, "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}",
            "-keyout", signed.key, "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-copy_extensions", "copy",
            "-days", days, "-out", signed.file,
        )  # fmt: skip
        return signed


def _openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
