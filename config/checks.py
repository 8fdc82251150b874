"""`manage.py check --deploy`: settings that work and do harm in production, each with its harm and how to mend it.

Only settings are looked at. `manage.py dbhealth` looks at the database, and at the rights of the server's role.
"""

import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from django.core import checks

from config.env import Env, env
from persistence.location import EMBEDDED
from persistence.postgres.dsn import Dsn

CONNECTIONS_MAX = 100
"""Connections that PostgreSQL allows by default."""
_POOLER_PORTS = {"6432", "6543"}
"""PgBouncer's port, and that of Supabase's pooler."""
_DAY = 24 * 3600
_WEEK, _MONTH = 7, 30
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class Deployment(NamedTuple):
    env: Env
    workers: int

    @property
    def dsn(self) -> Dsn | None:
        """The address of the database; None for the embedded one."""
        env = self.env
        if env.database_url.startswith(EMBEDDED):
            return None
        return Dsn.parse(env.database_url, env.database_private_hosts, behind_pooler=env.database_pooler)


class Rule(NamedTuple):
    kind: Callable[..., checks.CheckMessage]
    applies: Callable[[Deployment], bool]
    harm: str
    hint: str


def _has_same_role(deployment: Deployment) -> bool:
    dsn, direct = deployment.dsn, deployment.env.database_url_direct
    if dsn is None or direct is None or direct.startswith(EMBEDDED):
        return False
    owner = Dsn.parse(direct, deployment.env.database_private_hosts).parameters
    return owner.get("user") == dsn.parameters.get("user")


def _looks_pooled(deployment: Deployment) -> bool:
    dsn = deployment.dsn
    return dsn is not None and not dsn.is_pooled and bool(_POOLER_PORTS & {*dsn.parameters.get("port", "").split(",")})


def _migrations_meet_pooler(deployment: Deployment) -> bool:
    dsn = deployment.dsn
    return dsn is not None and deployment.env.database_url_direct is None and dsn.direct().is_pooled


def _is_name_unchecked(deployment: Deployment) -> bool:
    env = deployment.env
    urls = (env.database_url, env.database_url_direct)
    return any(_takes_any_name(url, env.database_private_hosts) for url in urls if url and not url.startswith(EMBEDDED))


def _takes_any_name(url: str, private_hosts: Collection[str]) -> bool:
    mode = Dsn.parse(url, private_hosts).parameters.get("sslmode")
    authority = dict(parse_qsl(urlsplit(url).query)).get("sslrootcert", "system")
    # An authority of one's own signs no certificate for anybody else, so its file is as good as the name.
    is_unchecked = mode == "require" or (mode == "verify-ca" and authority == "system")
    return is_unchecked and not _is_on_this_machine(url)


def _is_on_this_machine(url: str) -> bool:
    return urlsplit(url).hostname in _THIS_MACHINE


def _is_unencrypted(url: str) -> bool:
    return url.startswith("http://") and not _is_on_this_machine(url)


def _is_on_all_addresses(bind: str | None) -> bool:
    host = (bind or "").rpartition(":")[0].strip("[]")
    # `0` and `::0` are such addresses, too; no name is asked for.
    with suppress(OSError):
        return ip_address(socket.getaddrinfo(host, 1, flags=socket.AI_NUMERICHOST)[0][4][0]).is_unspecified
    return False


RULES = {
    "todo.E001": Rule(
        checks.Error,
        lambda d: not d.env.is_production,
        "ENVIRONMENT is development: unless AUTH_MODE is set everybody may call, and each start migrates the database.",
        "Set ENVIRONMENT=production.",
    ),
    "todo.W001": Rule(
        checks.Warning,
        lambda d: d.env.auth_mode == "trusted",
        "AUTH_MODE is trusted: each client that reaches the port can read and change the tasks of every user.",
        "Let nothing but the gateway reach it, or set AUTH_MODE=jwt.",
    ),
    "todo.W002": Rule(
        checks.Warning,
        lambda d: d.env.auth_mode == "jwt" and not (d.env.user_requests_per_minute and d.env.user_tasks_max),
        "A user is not limited: one that signs in can fill the disk, or take the time of all others.",
        "Set USER_REQUESTS_PER_MINUTE, such as to 600, and USER_TASKS_MAX, such as to 10000.",
    ),
    "todo.W003": Rule(
        checks.Warning,
        lambda d: any(map(_is_on_this_machine, d.env.cors_origins)),
        "CORS_ORIGINS has an origin on the user's own machine: a page of any program there may call the API like a "
        "page of yours.",
        "Set CORS_ORIGINS to the origins of your front end, or to nothing if there is none.",
    ),
    "todo.W004": Rule(
        checks.Warning,
        lambda d: any(map(_is_unencrypted, d.env.cors_origins)),
        "CORS_ORIGINS has an origin with http: its pages can be altered on their way, and then call with the token of "
        "the user.",
        "Serve the front end by HTTPS, and write https:// in CORS_ORIGINS.",
    ),
    "todo.W005": Rule(
        checks.Warning,
        lambda d: d.env.auth_mode == "jwt" and _is_unencrypted(d.env.auth_jwks_url or ""),
        "AUTH_JWKS_URL has http: anybody who can alter what crosses that network can be every user.",
        "Write https://, if the issuer can be reached by it.",
    ),
    "todo.W006": Rule(
        checks.Warning,
        lambda d: d.env.auth_max_lifetime > _DAY,
        "AUTH_MAX_LIFETIME is more than a day: a token that is stolen works for so long, and signing out does not end "
        "it.",
        "Let the issuer make tokens that live for minutes, and set AUTH_MAX_LIFETIME to a day or less.",
    ),
    "todo.W007": Rule(
        checks.Warning,
        _looks_pooled,
        "The port of DATABASE_URL is that of a pooler. Statements are prepared without DATABASE_POOLER, and behind a "
        "transaction pooler some of them then fail.",
        "Set DATABASE_POOLER=true, unless it is a PostgreSQL with an unusual port.",
    ),
    "todo.W008": Rule(
        checks.Warning,
        _migrations_meet_pooler,
        "DATABASE_URL leads to a pooler and DATABASE_URL_DIRECT is not set: migrations are refused, and with "
        "AUTO_MIGRATE the server does not start.",
        "Set DATABASE_URL_DIRECT to the address of the database without the pooler.",
    ),
    "todo.W009": Rule(
        checks.Warning,
        _has_same_role,
        "DATABASE_URL and DATABASE_URL_DIRECT have the same role: the server could change and drop the tables.",
        "Make a role for the server by `manage.py grant_app`, and put it into DATABASE_URL.",
    ),
    "todo.W010": Rule(
        checks.Warning,
        lambda d: d.env.is_production and d.env.auto_migrate,
        "AUTO_MIGRATE needs a role that owns the tables, and its password is within reach of what answers requests.",
        "Run `manage.py migrate_sql` before the start, where only that has DATABASE_URL_DIRECT.",
    ),
    "todo.W011": Rule(
        checks.Warning,
        _is_name_unchecked,
        "sslmode in DATABASE_URL or DATABASE_URL_DIRECT does not check the name of the server: anybody who can "
        "redirect the connection gets the password and all data.",
        "Write sslmode=verify-full, and sslrootcert=... if the system does not know who has issued the certificate.",
    ),
    "todo.W012": Rule(
        checks.Warning,
        lambda d: _is_on_all_addresses(d.env.metrics_bind),
        "METRICS_BIND listens on all addresses: every client that reaches the machine can read the metrics.",
        "Bind it to a loopback or a private address.",
    ),
    "todo.W013": Rule(
        checks.Warning,
        lambda d: d.dsn is not None and not d.dsn.is_pooled and d.workers * d.env.database_pool_max > CONNECTIONS_MAX,
        f"The workers may open more connections together than the {CONNECTIONS_MAX} that PostgreSQL allows by default: "
        "then some requests are refused, and so are commands.",
        "Lower DATABASE_POOL_MAX or WEB_CONCURRENCY, or raise max_connections of the database.",
    ),
    "todo.W014": Rule(
        checks.Warning,
        lambda d: d.env.trash_days < _WEEK,
        "TRASH_DAYS is less than a week: a task that was deleted by mistake may be gone for good before its user "
        "notices.",
        "Set TRASH_DAYS to 7 or more, such as to 30.",
    ),
    "todo.W015": Rule(
        checks.Warning,
        lambda d: d.env.tombstone_days < _MONTH,
        "TOMBSTONE_DAYS is less than 30: each app that was offline for longer has to fetch all tasks of its user anew.",
        "Set TOMBSTONE_DAYS to 30 or more, such as to 90.",
    ),
    "todo.I001": Rule(
        checks.Info,
        lambda d: not d.env.shutdown_delay,
        "SHUTDOWN_DELAY is 0: until a load balancer notices that a server stops, new clients are refused.",
        "Set it to the seconds that it takes to notice, unless the load balancer then tries another server.",
    ),
}


def problems(deployment: Deployment) -> list[checks.CheckMessage]:
    return [rule.kind(rule.harm, hint=rule.hint, id=name) for name, rule in RULES.items() if rule.applies(deployment)]


@checks.register(deploy=True)
def check_deployment(**_: Any) -> list[checks.CheckMessage]:
    # Its default is WEB_CONCURRENCY. What the command line says cannot be known here.
    from gunicorn.config import Workers

    return problems(Deployment(env, Workers.default))
