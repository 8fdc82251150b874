"""The world's view of the machine: its address, the name in DNS, and the authority that everybody trusts."""

import ssl
from pathlib import Path
from time import time
from typing import override
from uuid import uuid4

import httpx

from tests.support.issuer import SigningKey


class _ByAddress(httpx.HTTPTransport):
    """Leads to an address whatever host the URL names, as DNS does."""

    def __init__(self, address: str, name: str, trusted: Path) -> None:
        super().__init__(verify=ssl.create_default_context(cafile=trusted))
        self._address, self._name = address, name

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host=self._address)
        request.extensions |= {"sni_hostname": self._name}
        return super().handle_request(request)


class Outside:
    def __init__(self, address: str, name: str, trusted: Path, key: SigningKey, issuer: str, audience: str) -> None:
        self.address, self._name, self._trusted = address, name, trusted
        self.client = self.another()
        self._key, self._issuer, self._audience = key, issuer, audience

    def move(self, address: str) -> None:
        """Leads to the machine at this address from now on."""
        self.client.close()
        self.address = address
        self.client = self.another()

    def another(self) -> httpx.Client:
        transport = _ByAddress(self.address, self._name, self._trusted)
        return httpx.Client(base_url=f"https://{self._name}", transport=transport, timeout=30)

    def status(self, path: str) -> int:
        """The status of a GET, 0 where no answer comes."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def token(self, user: str = "") -> str:
        """A token of the issuer for a user, a new one unless it is named."""
        now = int(time())
        claims = {"iat": now, "exp": now + 900, "sub": user or str(uuid4())}
        return self._key.sign(
            {"alg": self._key.algorithm, "kid": self._key.kid}, claims | {"iss": self._issuer, "aud": self._audience}
        )

    def signed_in(self, user: str = "") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}
