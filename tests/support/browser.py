"""Chromium without a screen. WebDriver (W3C) is HTTP and JSON, so that httpx drives it and no package is needed."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import free_port
from tests.support.servers import eventually

WAIT = 60
"""Seconds that an element may take to appear."""

_SELECT_ALL = "\ue009a\ue000"  # WebDriver's Ctrl and a, and an end to Ctrl.
_OPTIONS = [
    "--headless",
    "--no-sandbox",  # root has none, and the browser sees no page but ours.
    "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--window-size=1280,2000",
]  # fmt: skip


def is_installed() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """One window. Elements are named by CSS selectors, and waited for."""

    def __init__(self, http: httpx.Client, capabilities: dict[str, Any]) -> None:
        self._http, self._session = http, ""
        eventually(self._is_ready)
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{session['sessionId']}"

    def _is_ready(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._call("DELETE", "")

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def click(self, css: str) -> None:
        """Clicks each such element, one after the other."""
        for element in self._elements(css):
            self._call("POST", f"{element}/click", {})

    def fill(self, css: str, text: str) -> None:
        """Types this in place of the text of the field."""
        for element in self._elements(css):
            self._call("POST", f"{element}/value", {"text": f"{_SELECT_ALL}{text}"})

    def run(self, script: str) -> Any:
        """What the script returns, or what a promise becomes that it returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def texts(self, css: str) -> list[str]:
        return [self._call("GET", f"{element}/text") for element in self._elements(css)]

    def values(self, css: str) -> list[str]:
        return [self._call("GET", f"{element}/property/value") for element in self._elements(css)]

    def complaints(self) -> list[str]:
        """The messages on the console since this was asked last."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> dict[str, object]:
        """The addresses that were asked since this was asked last, each with the status or the error of its end."""
        urls, ends = dict[str, str](), dict[str, object]()
        for entry in self._log("performance"):
            event = json.loads(entry["message"])["message"]
            match event["method"], event["params"]:
                case "Network.requestWillBeSent", {"requestId": key, "request": {"url": url}}:
                    urls[key] = url
                case "Network.responseReceived", {"requestId": key, "response": {"status": end}}:
                    ends[key] = end
                case "Network.loadingFailed", {"requestId": key, "errorText": end}:
                    ends[key] = end
        # Chromium's own pages and images within the page ask no host.
        return {url: ends.get(key) for key, url in urls.items() if not url.startswith(("chrome:", "data:"))}

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._call("POST", "/se/log", {"type": kind})
        return entries

    def _elements(self, css: str) -> list[str]:
        found = self._call("POST", "/elements", {"using": "css selector", "value": css})
        assert found, f"nothing on the page is {css}"
        # The key of a reference to an element is a constant of the standard's.
        return [f"/element/{key}" for reference in found for key in reference.values()]

    def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = self._http.request(method, f"{self._session}{path}", json=body)
        value = answer.json()["value"]
        assert answer.is_success, value["message"]
        return value


@contextmanager
def browser(folder: Path, host: str) -> Iterator[Browser]:
    """`host` is a name for this machine; no other one is found. `folder` gets the profile and the driver's log."""
    port = free_port()
    hosts = f"--host-resolver-rules=MAP {host} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    capabilities = {
        "timeouts": {"implicit": WAIT * 1000},
        "goog:chromeOptions": {"args": [*_OPTIONS, hosts, f"--user-data-dir={folder / 'profile'}"]},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
    with (folder / "chromedriver.log").open("w") as log:
        driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as http:
            window = Browser(http, capabilities)
            yield window
            window.close()
    finally:
        driver.terminate()
        driver.wait(30)
