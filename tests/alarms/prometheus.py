"""A real Prometheus with the files of `deploy/prometheus`, for which a minute lasts a second."""

import re
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx

from tests.deploy.files import DEPLOY, program, replaced
from tests.support.processes import free_port
from tests.support.servers import eventually

SPEED = 60
_MILLISECONDS = {"s": 1000, "m": 60_000}
_DURATION = re.compile(r"((?:\bfor|_interval): |\[)(\d+)([sm])\b")


def quickened(text: str) -> str:
    """The text with each duration of a rule, a range or an interval divided by `SPEED`."""
    return _DURATION.sub(lambda found: f"{found[1]}{int(found[2]) * _MILLISECONDS[found[3]] // SPEED}ms", text)


class Prometheus:
    """Scrapes the server at `target`, and evaluates the alarms."""

    def __init__(self, folder: Path, target: str) -> None:
        self.port = free_port()
        self._folder = folder
        source = DEPLOY / "prometheus"
        folder.mkdir()
        settings = replaced(source / "prometheus.yml", {"127.0.0.1:9464": target})
        (folder / "prometheus.yml").write_text(quickened(settings), encoding="utf-8")
        rules = (source / "alerts.yml").read_text(encoding="utf-8")
        (folder / "alerts.yml").write_text(quickened(rules), encoding="utf-8")

    def __enter__(self) -> Self:
        command = [
            program("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        try:
            eventually(self._is_scraping)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def firing(self) -> set[str]:
        """The names of the alarms that fire."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _is_scraping(self) -> bool:
        try:
            targets = self._get("targets")["activeTargets"]
        except (httpx.TransportError, httpx.HTTPStatusError):
            # It answers 503 while it starts.
            return False
        return [target["health"] for target in targets] == ["up"]

    def _get(self, what: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/{what}", trust_env=False)
        return answer.raise_for_status().json()["data"]
