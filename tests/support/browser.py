"""Chromium without a screen. WebDriver (W3C) is HTTP and JSON, so that httpx drives it and no package is needed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.processes import free_port
from tests.support.servers import eventually

WAIT = 20
"""Seconds that an element may take to appear."""

_SELECT_ALL = "\ue009a\ue000"  # WebDriver's Ctrl and a, and an end to Ctrl.
_OPTIONS = [
    "--headless",
    "--no-sandbox",  # There is none for root, and it sees no page but ours.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,2000",
]


def is_installed() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """`host` is a name for this machine; no other host can be found. `folder` gets its profile and the driver's log.

    Elements are named by CSS selectors, and waited for.
    """

    def __init__(self, folder: Path, host: str) -> None:
        port = free_port()
        self._command = ["chromedriver", f"--port={port}"]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
        self._folder = folder
        hosts = f"--host-resolver-rules=MAP {host} 127.0.0.1, MAP * ~NOTFOUND"
        self._capabilities = {
            "timeouts": {"implicit": WAIT * 1000},
            "goog:chromeOptions": {"args": [*_OPTIONS, hosts, f"--user-data-dir={folder / 'profile'}"]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }

    def __enter__(self) -> Self:
        with (self._folder / "chromedriver.log").open("w") as log:
            self._driver = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            eventually(self._is_ready)
            session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": self._capabilities}})
        except BaseException:
            self._end()
            raise
        self._session = f"/session/{session['sessionId']}"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._end()

    def _is_ready(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except httpx.TransportError:
            return False

    def _end(self) -> None:
        self._http.close()
        self._driver.terminate()
        self._driver.wait(30)

    def open(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def click(self, css: str) -> None:
        """Clicks each such element, one after the other."""
        for element in self._elements(css):
            self._call("POST", f"{element}/click", {})

    def fill(self, css: str, text: str) -> None:
        """Types this in place of what stands in the field."""
        for element in self._elements(css):
            self._call("POST", f"{element}/value", {"text": f"{_SELECT_ALL}{text}"})

    def texts(self, css: str) -> list[str]:
        """What a person reads there."""
        return [self._call("GET", f"{element}/text") for element in self._elements(css)]

    def values(self, css: str) -> list[str]:
        """What stands in these fields."""
        return [self._call("GET", f"{element}/property/value") for element in self._elements(css)]

    def complaints(self) -> list[str]:
        """What has been written to the console since this was asked last."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> dict[str, object]:
        """The addresses that were asked since this was asked last, with the status of the answer or what went wrong."""
        urls: dict[str, str] = {}
        ends: dict[str, object] = {}
        for entry in self._log("performance"):
            event = json.loads(entry["message"])["message"]
            match event["method"], event["params"]:
                case "Network.requestWillBeSent", {"requestId": key, "request": {"url": url}}:
                    urls[key] = url
                case "Network.responseReceived", {"requestId": key, "response": {"status": status}}:
                    ends[key] = status
                case "Network.loadingFailed", {"requestId": key, "errorText": error}:
                    ends[key] = error
        # Chromium's own pages and images within the page ask nobody.
        return {url: ends.get(key) for key, url in urls.items() if not url.startswith(("chrome:", "data:"))}

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._call("POST", f"{self._session}/se/log", {"type": kind})
        return entries

    def _elements(self, css: str) -> list[str]:
        found = self._call("POST", f"{self._session}/elements", {"using": "css selector", "value": css})
        assert found, f"nothing on the page is {css}"
        # The key of a reference to an element is a constant of the standard's.
        return [f"{self._session}/element/{key}" for reference in found for key in reference.values()]

    def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = self._http.request(method, path, json=body)
        value = answer.json()["value"]
        assert answer.is_success, value["message"]
        return value
