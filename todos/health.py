"""Probes: `live` for a supervisor that restarts processes, `health` for a load balancer."""

import asyncio
import logging
from time import monotonic

from django.http import HttpRequest, HttpResponse
from ninja import Router

from persistence import readiness
from persistence.history import MigrationError
from persistence.postgres.database import Database
from persistence.postgres.errors import DeadlineExceeded, PoolTimeout, Unavailable
from persistence.postgres.pool import LOST
from persistence.readiness import Readiness
from todos import contract
from todos.requests import Request
from todos.responses import json_response
from todos.schemas import Health, Liveness

router = Router(tags=["health"])
logger = logging.getLogger(__name__)

DATABASE_TIMEOUT = 1.25
"""Seconds for the database to answer, so that the probe does within two (D20), a request to cancel included."""

_checks: dict[Database, asyncio.Task[Readiness]] = {}
"""The checks that run. Probes that come meanwhile share it, or a flood of them would keep the one
connection that is there for probes busy, and call the database disconnected."""

_FAULTS = {
    "disconnected": "The database cannot be reached.",
    "read-only": "The database can only be read.",
    "unusable": "The database lacks tables, columns, functions or rights that the service needs.",
}


@router.get("/health", response={200: Health, 503: Health}, **contract.GET_HEALTH)
async def health(request: Request) -> HttpResponse:
    """Tells if the database answers, if every statement of the service can run, and if the schema is that of the code.

    While `database` is `read-only`, tasks can be read and not changed.
    """
    try:
        found = await asyncio.shield(_shared_check(request.database))
    except Unavailable as error:
        logger.warning("Unhealthy: %s", error)
        return _answer("disconnected", "unknown", _FAULTS["disconnected"])
    except MigrationError as error:
        logger.warning("Unhealthy: %s", error)
        return _answer("connected", "unknown", "The history of migrations cannot be told.")
    if found.fault:
        logger.warning("Unhealthy: %s", found.fault)
        return _answer(found.database, found.migration, _FAULTS[found.database])
    return _answer(found.database, found.migration)


@router.get("/live", response={200: Liveness}, **contract.GET_LIVENESS)
async def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Ninja knows it by this name
    """Answers without touching the database."""
    return json_response({"status": "alive"})


def _shared_check(database: Database) -> asyncio.Task[Readiness]:
    if database not in _checks:
        _checks[database] = asyncio.create_task(_check(database))
        _checks[database].add_done_callback(lambda _: _checks.pop(database))
    return _checks[database]


async def _check(database: Database) -> Readiness:
    if database.pool.is_lost:
        # The connection for probes may be back before any other.
        raise Unavailable(LOST)
    since = monotonic()
    try:
        return await readiness.check(database.probes, DATABASE_TIMEOUT)
    except Unavailable as error:
        if isinstance(error, PoolTimeout | DeadlineExceeded) or database.probes is database:
            raise
        # The server may have no connection left for probes alone.
        return await readiness.check(database, DATABASE_TIMEOUT - (monotonic() - since))


def _answer(database: str, migration: str, fault: str = "") -> HttpResponse:
    status, state = (503, "unhealthy") if fault else (200, "healthy")
    data = {"status": state, "database": database, "migration": migration}
    message = fault or "The service is healthy."
    return json_response({"status_code": status, "message": message, "data": data}, status=status)
