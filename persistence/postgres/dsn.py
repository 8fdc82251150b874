"""The address of the database, from `DATABASE_URL`: read strictly, never printed with its password (D16, D17)."""

import ipaddress
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, override
from urllib.parse import parse_qsl, unquote, urlsplit

import certifi
from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg")
EXAMPLE = "postgresql://user:password@ep-name-123.eu-central-1.aws.neon.tech/todo?sslmode=verify-full"

_UNENCRYPTED = ("disable", "allow", "prefer")
_VERIFYING = ("verify-ca", "verify-full")
_ENCRYPTED = ("require", *_VERIFYING)
_OURS = ("application_name", "client_encoding", "connect_timeout")
"""Parameters that are decided elsewhere; another encoding would keep most text from being stored."""
_BY_HOST = ("host", "hostaddr", "port")
"""Parameters that may have a value for each host."""
PORT_MAX = 65535


class BadDatabaseUrl(ValueError):
    """The URL cannot be used. The text says why and never repeats the URL, which may hold a password anywhere."""


@dataclass(frozen=True)
class Dsn:
    """libpq's connection parameters, with TLS already decided. Its repr leaves the password out."""

    parameters: dict[str, str] = field(repr=False)
    behind_pooler: bool = False
    """Set for a transaction pooler that is not Neon's."""

    @classmethod
    def parse(cls, url: str, private_hosts: Collection[str] = (), *, behind_pooler: bool = False) -> Self:
        """Reads any of the four URL forms (D16) and applies the TLS rule (D17).

        `private_hosts` are TCP hosts that may be reached without TLS, such as a compose service.
        Raises `BadDatabaseUrl`. Costs no I/O but a look for the system's CA file.
        """
        parameters = _parse_url(url)
        _require_tls(parameters, private_hosts)
        try:
            make_conninfo(**parameters)
        except ProgrammingError:
            raise BadDatabaseUrl(
                "it has a query parameter that libpq does not know; its names are listed in PostgreSQL's documentation "
                "under 'Parameter Key Words'"
            ) from None
        return cls(parameters, behind_pooler)

    @property
    def conninfo(self) -> str:
        """The connection string for psycopg, password included: never log it."""
        return make_conninfo(**self.parameters)

    @property
    def host(self) -> str:
        return self.parameters["host"]

    @property
    def database(self) -> str:
        return self.parameters["dbname"]

    @property
    def is_socket(self) -> bool:
        return _is_socket(self.host)

    @property
    def neon_branch(self) -> str | None:
        """The branch named in Neon's `options=project=... branch=...`, if any."""
        for word in self.parameters.get("options", "").split():
            name, _, value = word.partition("=")
            if name == "branch":
                return value
        return None

    @property
    def is_pooled(self) -> bool:
        """True for a transaction pooler; Neon's has `-pooler` at the end of the first label of its host."""
        return self.behind_pooler or self.direct() != self

    def direct(self) -> "Dsn":
        """The same database without Neon's pooler: migrations hold a session-level lock, which a pooler would lose."""
        host = ",".join(_without_pooler(host) for host in self.host.split(","))
        return self if host == self.host else replace(self._with(host=host), behind_pooler=False)

    @property
    def host_count(self) -> int:
        return self.host.count(",") + 1

    def at(self, *numbers: int) -> "Dsn":
        """The same database at some of its hosts only, by their numbers in the URL."""
        lists = {name: self.parameters[name].split(",") for name in _BY_HOST if name in self.parameters}
        return self._with(
            **{name: ",".join(each[n] for n in numbers) for name, each in lists.items() if len(each) == self.host_count}
        )

    def with_database(self, name: str) -> "Dsn":
        return self._with(dbname=name)

    def _with(self, **parameters: str) -> "Dsn":
        return replace(self, parameters=self.parameters | parameters)

    @override
    def __str__(self) -> str:
        """For people and logs: `user@host:port/database`, without the password."""
        user = self.parameters.get("user")
        port = self.parameters.get("port")
        return (f"{user}@" if user else "") + self.host + (f":{port}" if port else "") + f"/{self.database}"

    @override
    def __repr__(self) -> str:
        return f"Dsn({self})"


def _parse_url(url: str) -> dict[str, str]:
    if url != url.strip(" \t\r\n'\""):
        raise BadDatabaseUrl("it has a space, a line break or a quote before or after it")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise BadDatabaseUrl(f"it must start with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    try:
        parts = urlsplit(url)
        hosts, ports = _hosts_and_ports(parts.netloc.rpartition("@")[2])
        user, password, database = (
            unquote(part, errors="strict") for part in (*_user_and_password(parts.netloc), parts.path.removeprefix("/"))
        )
    except ValueError:
        raise BadDatabaseUrl(
            f"its host or port cannot be read; a port is a number up to {PORT_MAX}; inside the user name or password "
            "write '@' as %40, ':' as %3A, '/' as %2F, '#' as %23, '?' as %3F and '%' as %25"
        ) from None
    if "@" in parts.path + parts.query:
        raise BadDatabaseUrl("it has a '/' or '?' before the last '@'; inside the password write them as %2F and %3F")
    if parts.fragment:
        raise BadDatabaseUrl("it has a '#', which ends a URL; inside the password write it as %23")
    parameters = {
        "host": ",".join(hosts),
        "port": ",".join(ports),
        "user": user,
        "password": password,
        "dbname": database,
    }
    parameters = {name: value for name, value in parameters.items() if value.strip(",")}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        # asyncpg's users write ssl=require for what libpq calls sslmode.
        if name not in _OURS:
            parameters["sslmode" if name == "ssl" else name] = value
    if not all(port.isdecimal() and int(port) <= PORT_MAX for port in parameters.get("port", "").split(",") if port):
        raise BadDatabaseUrl(f"its port is not a number up to {PORT_MAX}")
    if parameters.get("port", "").count(",") not in (0, parameters.get("host", "").count(",")):
        raise BadDatabaseUrl("it has not as many ports as hosts")
    if any("\0" in value for value in parameters.values()):
        raise BadDatabaseUrl("it has a NUL character (%00)")
    if not parameters.get("host"):
        raise BadDatabaseUrl("it names no host; for a Unix socket add ?host=/var/run/postgresql")
    if not parameters.get("dbname"):
        raise BadDatabaseUrl("it names no database; add it after the host: .../todo")
    return parameters


def _user_and_password(netloc: str) -> tuple[str, str]:
    user, _, password = netloc.rpartition("@")[0].partition(":")
    return user, password


def _hosts_and_ports(netloc: str) -> tuple[list[str], list[str]]:
    """Splits `a:1,b:2`, as libpq allows several hosts; raises ValueError for a port that is not a number."""
    hosts, ports = [], []
    for address in netloc.split(","):
        parts = urlsplit(f"//{address}")
        hosts.append(unquote(parts.hostname or ""))
        ports.append(str(parts.port) if parts.port is not None else "")
    return hosts, ports


def _require_tls(parameters: dict[str, str], private_hosts: Collection[str]) -> None:
    if parameters.get("sslmode", "prefer") not in (*_UNENCRYPTED, *_ENCRYPTED):
        raise BadDatabaseUrl(f"its sslmode is none of {', '.join((*_UNENCRYPTED, *_ENCRYPTED))}")
    addresses = [*parameters["host"].split(","), *parameters.get("hostaddr", "").split(",")]
    private = {host.lower() for host in private_hosts}
    public = [host for host in addresses if host and not _is_this_machine(host) and host.lower() not in private]
    if not public:
        # Stated here, so that a PGSSLMODE in the environment cannot decide it.
        parameters.setdefault("sslmode", "prefer")
        return
    sslmode = parameters.setdefault("sslmode", "verify-full")
    if sslmode in _UNENCRYPTED:
        raise BadDatabaseUrl(
            f"sslmode={sslmode} would let the password and the data cross the network to {public[0]} unencrypted; "
            f"use sslmode=verify-full, or name the host in DATABASE_PRIVATE_HOSTS if it is on a private network"
        )
    if sslmode in _VERIFYING and parameters.get("sslrootcert", "system") == "system":
        # psycopg's wheels carry an OpenSSL that looks for the system's roots in a folder that does not exist.
        parameters["sslrootcert"] = _root_certificates()


def _root_certificates() -> str:
    """The system's CA bundle, where a company adds its own roots, else certifi's."""
    system = ssl.get_default_verify_paths().cafile
    return system if system and Path(system).is_file() else certifi.where()


def _is_this_machine(host: str) -> bool:
    if _is_socket(host) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_socket(host: str) -> bool:
    return host.startswith(("/", "@"))


def _without_pooler(host: str) -> str:
    if _is_socket(host):
        return host
    label, dot, domain = host.partition(".")
    return label.removesuffix("-pooler") + dot + domain
