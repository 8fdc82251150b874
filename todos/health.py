"""Probes: `live` for a supervisor that restarts processes, `ready` for a load balancer, `health` for the database."""

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from ninja import Router

from persistence import readiness
from persistence.history import MigrationError
from persistence.postgres.database import Database
from persistence.postgres.errors import DeadlineExceeded, PoolTimeout, Unavailable
from persistence.postgres.nodes import NodeStats
from persistence.postgres.pool import LOST
from persistence.readiness import Readiness
from todos import contract
from todos.requests import Request
from todos.responses import json_response
from todos.schemas import Health, Liveness, Ready

router = Router(tags=["health"])
logger = logging.getLogger(__name__)

DATABASE_TIMEOUT = 1.25
"""Seconds for the database to answer, so that the probe does within two (D20), a request to cancel included."""

PATIENCE = 0.4
"""Seconds after which a check that waits for one of several nodes has the nodes asked which of them answer."""
NODES_TIMEOUT = 0.3
"""Seconds for their answers."""

_checks: dict[Database, asyncio.Task[Readiness]] = {}
"""The checks that run. Probes that come meanwhile share it, or a flood of them would keep the one
connection that is there for probes busy, and call the database disconnected."""

_FAULTS = {
    "disconnected": "The database cannot be reached.",
    "read-only": "The database can only be read.",
    "unusable": "The database lacks tables, columns, functions or rights that the service needs.",
}
_STOPPING = "The server is about to stop."
_NO_KEYS = "No key for checking tokens has been fetched yet."


class Finding(NamedTuple):
    """The state of the database as a probe found it; `fault` is for people, and empty if all statements can run."""

    database: str
    migration: str
    fault: str = ""
    nodes: NodeStats = NodeStats(1, 1)

    @property
    def data(self) -> dict[str, Any]:
        return {
            "database": "degraded" if self.database == "connected" and self._lacks_nodes else self.database,
            "migration": self.migration,
            **({"nodes": self.nodes._asdict()} if self.nodes.known > 1 else {}),
        }

    @property
    def trouble(self) -> str:
        """The trouble of a part of the users, for people."""
        return f"{self.nodes.answering} of {self.nodes.known} database nodes answer." if self._lacks_nodes else ""

    @property
    def _lacks_nodes(self) -> bool:
        return self.nodes.answering < self.nodes.known


@router.get("/health", response={200: Health, 503: Health}, **contract.GET_HEALTH)
async def health(request: Request) -> HttpResponse:
    """Tells if the database answers, if every statement of the service can run, and if the schema is that of the code.

    While `database` is `read-only`, tasks can be read and not changed. `degraded` is a database of several nodes, some
    of which do not answer: the users of the others are served.
    """
    found = await _find(request.database)
    message = found.fault or found.trouble or "The service is healthy."
    return _answer("unhealthy" if found.fault else "healthy", found.data, message)


@router.get("/ready", response={200: Ready, 503: Ready}, **contract.GET_READINESS)
async def ready(request: Request) -> HttpResponse:
    """Tells if this process should get requests: health, and the keys of tokens, and no stop is under way.

    From a stop on, the answer is 503 and the database is not asked.
    """
    # Set by server/worker.py.
    is_stopping = request.scope["state"].get("is_stopping", lambda: False)()
    verifier = request.verifier
    keys = "not-needed" if verifier is None else "known" if verifier.has_keys else "unknown"
    found = Finding("unknown", "unknown", _STOPPING) if is_stopping else await _find(request.database)
    fault = found.fault or (_NO_KEYS if keys == "unknown" else "")
    data = {**found.data, "keys": keys, "stopping": is_stopping}
    return _answer("not-ready" if fault else "ready", data, fault or found.trouble or "The service is ready.")


@router.get("/live", response={200: Liveness}, **contract.GET_LIVENESS)
async def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Ninja knows it by this name
    """Answers without touching the database."""
    return json_response({"status": "alive"})


async def _find(database: Database) -> Finding:
    return (await _ask(database))._replace(nodes=database.node_stats)


async def _ask(database: Database) -> Finding:
    try:
        found = await asyncio.shield(_shared_check(database))
    except Unavailable as error:
        logger.warning("Unhealthy: %s", error)
        return Finding("disconnected", "unknown", _FAULTS["disconnected"])
    except MigrationError as error:
        logger.warning("Unhealthy: %s", error)
        return Finding("connected", "unknown", "The history of migrations cannot be told.")
    if found.fault:
        logger.warning("Unhealthy: %s", found.fault)
        return Finding(found.database, found.migration, _FAULTS[found.database])
    return Finding(found.database, found.migration)


def _shared_check(database: Database) -> asyncio.Task[Readiness]:
    if database not in _checks:
        _checks[database] = asyncio.create_task(_check(database))
        _checks[database].add_done_callback(lambda _: _checks.pop(database))
    return _checks[database]


async def _check(database: Database) -> Readiness:
    if database.pool.is_lost:
        # The connection for probes may be back before any other.
        raise Unavailable(LOST)
    if database.nodes.stats.known == 1:
        return await _check_one(database)
    began = monotonic()
    first = asyncio.create_task(_check_one(database))
    try:
        await asyncio.wait([first], timeout=PATIENCE)
        if not first.done() and await database.nodes.ask(NODES_TIMEOUT):
            # Its connection may lead to a node that does not answer. Those of the pool do not any more.
            with suppress(Unavailable):
                return await readiness.check(database, DATABASE_TIMEOUT - (monotonic() - began))
        return await first
    finally:
        first.cancel()


async def _check_one(database: Database) -> Readiness:
    since = monotonic()
    try:
        return await readiness.check(database.probes, DATABASE_TIMEOUT)
    except Unavailable as error:
        if isinstance(error, PoolTimeout | DeadlineExceeded) or database.probes is database:
            raise
        # The server may have no connection left for probes alone.
        return await readiness.check(database, DATABASE_TIMEOUT - (monotonic() - since))


def _answer(state: str, data: dict[str, Any], message: str) -> HttpResponse:
    status = 200 if state in ("healthy", "ready") else 503
    return json_response({"status_code": status, "message": message, "data": {"status": state, **data}}, status=status)
