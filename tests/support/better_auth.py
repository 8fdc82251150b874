"""The Better Auth of examples/better-auth on a port of its own, beside an API that trusts its tokens."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
import psycopg

from persistence.postgres.dsn import Dsn
from tests.support.databases import as_owner
from tests.support.processes import clean_environment, free_port
from tests.support.servers import LONG, ROOT, WebServer, eventually, url_of
from tests.support.sites import locked, production

EXAMPLE = ROOT / "examples/better-auth"
URL = "http://localhost:3000"
PASSWORD = "correct horse battery staple"
MISSING = ", ".join(program for program in ("node", "npm", "make") if not shutil.which(program))


def proposed_settings() -> dict[str, str]:
    """The settings that `.env.example` proposes for Better Auth."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = ("AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_JWKS_URL")
    return {name: value for name, value in re.findall(r"^# (\w+)=(\S+)$", text, re.MULTILINE) if name in names}


class BetterAuth:
    """Better Auth as `make auth` runs it, but on a free port unless `url` names one; its output is in `log`."""

    def __init__(self, folder: Path, dsn: Dsn, url: str | None = None) -> None:
        self._dsn = dsn
        self._log = folder / "better-auth.log"
        self.url = url or URL.replace("3000", str(free_port()))

    @property
    def settings(self) -> dict[str, Any]:
        """What the API needs to trust it, and to let its page in."""
        proposed = {name: value.replace(URL, self.url) for name, value in proposed_settings().items()}
        return {"AUTH_MODE": "jwt", "CORS_ORIGINS": self.url, **proposed}

    @contextmanager
    def running(self, api_url: str) -> Iterator[Self]:
        with locked(EXAMPLE / "package-lock.json"):
            # This is quick unless nothing is installed yet.
            subprocess.run(["make", "--silent", EXAMPLE.relative_to(ROOT) / "node_modules"], cwd=ROOT, check=True)
        environment = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": url_of(as_owner(self._dsn)),
            "BETTER_AUTH_URL": self.url,
            "API_URL": api_url,
        }
        with self._log.open("w") as log:
            program = [sys.executable, str(EXAMPLE / "start.py")]
            process = subprocess.Popen(program, env={**clean_environment(), **environment}, stdout=log, stderr=log)
        try:
            eventually(lambda: "Sign in at" in self._log_of(process))
            yield self
        finally:
            process.terminate()
            process.wait(LONG)

    def _log_of(self, process: subprocess.Popen[bytes]) -> str:
        assert process.poll() is None, self.log
        return self.log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def execute(self, statement: str) -> None:
        with psycopg.connect(as_owner(self._dsn).conninfo) as connection:
            connection.execute(statement.encode())

    def replace_key(self) -> None:
        """Ends the time of the key that signs; the next token gets another."""
        self.execute('UPDATE auth.jwks SET "expiresAt" = now() WHERE "expiresAt" > now()')


class Person:
    """A browser that has the cookies of one person."""

    def __init__(self, http: httpx.Client, email: str) -> None:
        self._http, self.email = http, email

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def ask(self, path: str, **values: object) -> httpx.Response:
        return self._http.post(path, json=values)

    def sign_up(self) -> UUID:
        """Makes an account, and returns its id."""
        answer = self.ask("sign-up/email", name=self.email, email=self.email, password=PASSWORD)
        assert answer.status_code == 200, answer.text
        return UUID(answer.json()["user"]["id"])

    def token(self) -> str:
        answer = self.get("token")
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token


@contextmanager
def new_person(auth: BetterAuth) -> Iterator[Person]:
    options: dict[str, Any] = {"headers": {"Origin": auth.url}, "timeout": LONG, "trust_env": False}
    with httpx.Client(base_url=f"{auth.url}/api/auth", **options) as http:
        yield Person(http, f"{uuid4()}@example.com")


@dataclass(frozen=True)
class SignedInSite:
    """An API, and the Better Auth that it trusts."""

    web: WebServer
    auth: BetterAuth

    def call(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        return self.web.http.request(method, path, headers={"Authorization": f"Bearer {token}"}, **options)


@contextmanager
def signed_in_site(dsn: Dsn, folder: Path, api_dsn: Dsn | None = None, **settings: str) -> Iterator[SignedInSite]:
    """`api_dsn` is the API's database if it has another than Better Auth."""
    auth = BetterAuth(folder, dsn)
    web = production(api_dsn or dsn, folder, **auth.settings | settings)
    with auth.running(web.url), web:
        yield SignedInSite(web, auth)
