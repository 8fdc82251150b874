"""How a server comes up with its database: patient in production, at once or not at all in development (D11, D14)."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

import psycopg
from sqlalchemy.exc import DBAPIError

from persistence import migrations
from persistence.database import Database, open_database
from persistence.diagnosis import diagnose, is_full
from persistence.dsn import Dsn
from persistence.errors import Unavailable
from persistence.options import DatabaseOptions

logger = logging.getLogger(__name__)

RETRIES = 5
FIRST_DELAY, LONGEST_DELAY = 0.5, 4.0
JITTER = 0.2
ATTEMPT_TIMEOUT = 2.5
"""Seconds. With the delays (11.5 seconds in all, a fifth more with jitter) six attempts stay within 30 (D14)."""
CHECK_TIMEOUT = 2.0
REPLACEMENT_TIMEOUT = 5.0
"""Seconds that a process which replaces another waits for its migration, or for others to give up a connection;
gunicorn ends everything after 30."""
_PAUSE = 0.05


class StartupError(Exception):
    """The server cannot start; the text says why and how to mend it."""


@asynccontextmanager
async def start(
    dsn: Dsn,
    options: DatabaseOptions,
    *,
    patient: bool,
    migrate: bool,
    replaces: bool = False,
    on_starved: Callable[[], None] = lambda: None,
) -> AsyncIterator[Database]:
    """The database, connected, and migrated if asked to; a schema that is behind is only worth a warning.

    `patient` tries again for up to 30 seconds when the database cannot be reached. Raises `StartupError`, but not for
    a process that `replaces` one that has served: it serves what it can, and the rest when the database is back.
    `on_starved` is called whenever others have all the connections that the server can give.
    """
    async with AsyncExitStack() as stack:
        if replaces:
            opened = open_database(dsn, options, at_once=True, on_starved=on_starved)
            database = await stack.enter_async_context(opened)
            await _get_a_share(database)
        else:
            opened = _connected(dsn, options, RETRIES if patient else 0, on_starved)
            database = await stack.enter_async_context(opened)
            logger.info("Connected to the database %s.", dsn)
        try:
            if migrate:
                migrating = asyncio.create_task(_migrate(dsn))
                stack.callback(migrating.cancel)
                await asyncio.wait([migrating], timeout=REPLACEMENT_TIMEOUT if replaces else None)
                if migrating.done():
                    await migrating
                else:
                    logger.warning("Migrating takes longer; serving meanwhile.")
                    migrating.add_done_callback(_report)
            revision = await migrations.applied_revision(database, CHECK_TIMEOUT)
            if migrations.state(revision) == "behind":
                logger.warning("The database is behind the code; run `manage.py migrate_sql`.")
        except (migrations.MigrationError, psycopg.Error, DBAPIError, Unavailable) as error:
            problem = f"The database {dsn} cannot be migrated or asked for its migrations: {error}"
            if not replaces:
                raise StartupError(problem) from error
            logger.warning("%s", problem)
        yield database


async def _get_a_share(database: Database) -> None:
    """Returns when the process has a connection or cannot have one; others that serve may give one up for it."""
    deadline = monotonic() + REPLACEMENT_TIMEOUT
    while monotonic() < deadline:
        try:
            database.pool.release(await database.pool.acquire(CHECK_TIMEOUT))
        except Unavailable:
            if not database.pool.is_starved:
                return
        else:
            return
        await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def _connected(
    dsn: Dsn, options: DatabaseOptions, retries: int, on_starved: Callable[[], None]
) -> AsyncIterator[Database]:
    delay = FIRST_DELAY
    for attempt in range(retries + 1):
        stack = AsyncExitStack()
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                database = await stack.enter_async_context(open_database(dsn, options, on_starved=on_starved))
        except (psycopg.Error, OSError) as error:
            diagnosis = diagnose(error)
            if is_full(error):
                on_starved()
            if attempt == retries:
                attempts = f" after {attempt + 1} attempts" if attempt else ""
                raise StartupError(f"No connection to the database {dsn}{attempts}: {diagnosis}") from error
            wait = delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter is no secret
            logger.warning(
                "Attempt %d of %d to reach the database failed, the next is in %.1f s: %s",
                attempt + 1, retries + 1, wait, diagnosis.problem,
            )  # fmt: skip
            await asyncio.sleep(wait)
            delay = min(delay * 2, LONGEST_DELAY)
        else:
            async with stack:
                yield database
            return


def _report(migrating: asyncio.Task[None]) -> None:
    if not migrating.cancelled() and (error := migrating.exception()):
        logger.error("Migrating failed: %s", error)


async def _migrate(dsn: Dsn) -> None:
    for step in await asyncio.to_thread(migrations.upgrade, dsn):
        logger.info("Migrated to %s (%s) in %.2f s.", step.revision, step.description, step.duration)
