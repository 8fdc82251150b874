"""The settings of tokens. They stand apart from the code that verifies, as reading the environment must not load it."""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

ALGORITHMS = (
    "EdDSA", "Ed25519", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
)  # fmt: skip
"""Those of asymmetric keys: a secret that signs must not be in a set that everybody can read."""

_PRIVATE_SUFFIXES = (".internal", ".local", ".localhost")


@dataclass(frozen=True)
class TokenRules:
    """Which tokens are accepted. `audience`, `authorized_parties` or both have to be set."""

    issuer: str
    audience: str | None
    """None refuses each token that names one: it is meant for another API (RFC 7519, section 4.1.3)."""
    authorized_parties: tuple[str, ...]
    """The values of `azp`, one of which a token must have, if there are any."""
    jwks_url: str
    algorithms: tuple[str, ...]
    subject: Literal["uuid", "derived"]
    """How `sub` becomes the id of a user: it is one, or the id is a UUID derived from the issuer and `sub`."""
    max_lifetime: int
    """Seconds from `iat` to `exp`."""

    def __post_init__(self) -> None:
        """Refuses rules that would accept a token that the issuer made for somebody else."""
        if not self.audience and not self.authorized_parties:
            raise ValueError("an audience or an authorized party has to be set")
        check_jwks_url(self.jwks_url)
        check_algorithms(self.algorithms)


def check_algorithms(names: Collection[str]) -> None:
    """Raises `ValueError` unless there are names, and each is in `ALGORITHMS`."""
    unknown = [name for name in names if name not in ALGORITHMS]
    if unknown or not names:
        what = f"{unknown[0]!r} is not an algorithm" if unknown else "it names no algorithm"
        raise ValueError(f"{what}; write one or more of {', '.join(ALGORITHMS)}")


def check_jwks_url(url: str) -> None:
    """Raises `ValueError` for an address from which keys must not be fetched.

    A stranger that can change keys can be any user. The address has to be `https`, or `http` to a host that only
    a private network knows. The text of the error never repeats the URL.
    """
    if not re.fullmatch(r"[!-~]+", url):
        raise ValueError("it has a character that a URL does not have, such as a space")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("its host or port cannot be read") from None
    if parts.scheme not in ("https", "http"):
        raise ValueError("it must start with https:// (or http:// for a host in a private network)")
    if not host:
        raise ValueError("it names no host")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("it has a user name, a password or a '#', which an address of keys does not have")
    if parts.scheme == "http" and not _is_private(host):
        raise ValueError("http:// is for hosts in a private network only; write https://")


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A number without a dot is an IPv4 address, too: 134744072 is 8.8.8.8.
        is_name = "." not in host and not re.fullmatch("[0-9]+|0x[0-9a-f]*", host)
        return is_name or host.endswith(_PRIVATE_SUFFIXES)
    return address.is_private
