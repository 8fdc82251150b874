"""The start of a server with its database: with retries in production, without any in development (D11, D14)."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg

from persistence import migrator, readiness
from persistence.history import MigrationError, revisions
from persistence.postgres.compatibility import Incompatible
from persistence.postgres.database import Database, open_database
from persistence.postgres.diagnosis import diagnose
from persistence.postgres.dsn import Dsn
from persistence.postgres.errors import Unavailable
from persistence.postgres.options import DatabaseOptions

logger = logging.getLogger(__name__)

RETRIES = 5
FIRST_DELAY, LONGEST_DELAY = 0.5, 4.0
JITTER = 0.2
ADDRESS_TIMEOUT = 2
"""Seconds for each address of the database in an attempt."""
ATTEMPTS_TIMEOUT = 30.0
"""Seconds for all attempts (D14). With the delays (11.5 seconds in all, a fifth more with jitter) six attempts at one
address stay within that."""
CHECK_TIMEOUT = 2.0
REPLACEMENT_TIMEOUT = 5.0
"""Seconds that a replacement waits for its migration; gunicorn ends a worker whose start takes longer than 30."""


class StartupError(Exception):
    """The server cannot start; the text says why and how to mend it."""


@asynccontextmanager
async def start(
    dsn: Dsn,
    options: DatabaseOptions,
    *,
    retry: bool,
    migrate_at: Dsn | None = None,
    is_replacement: bool = False,
) -> AsyncIterator[Database]:
    """The database, connected; a schema that is behind is only worth a warning.

    With `migrate_at`, the address of the same database for its owner, it is migrated first. With `retry` it tries for
    up to 30 seconds when the database cannot be reached. Raises `StartupError` if that, or the migration, fails. A
    replacement takes the place of a process that has served: it starts without the database, and serves what it can
    until that is back. Nothing starts with revisions that cannot be read.
    """
    try:
        revisions()
    except MigrationError as error:
        raise StartupError(f"The migrations cannot be used: {error}") from error
    async with AsyncExitStack() as stack:
        if is_replacement:
            database = await stack.enter_async_context(open_database(dsn, options, in_background=True))
        else:
            database = await stack.enter_async_context(_connected(dsn, options, RETRIES if retry else 0))
            logger.info("Connected to the database %s.", dsn)
        try:
            if migrate_at:
                migrating = asyncio.create_task(_migrate(migrate_at, options.connect_timeout))
                stack.callback(migrating.cancel)
                await asyncio.wait([migrating], timeout=REPLACEMENT_TIMEOUT if is_replacement else None)
                if migrating.done():
                    await migrating
                else:
                    logger.warning("The migration takes longer; serving meanwhile.")
                    migrating.add_done_callback(_report)
            found = await readiness.check(database, CHECK_TIMEOUT)
            if found.fault:
                logger.warning("Not every statement can run on the database: %s", found.fault)
            if found.migration == "behind":
                logger.warning("The database is behind the code; run `manage.py migrate_sql`.")
        except (MigrationError, psycopg.Error, Unavailable) as error:
            address = migrate_at or dsn
            problem = f"The database {address} cannot be migrated or asked for its migrations: {_reason(error)}"
            if not is_replacement:
                raise StartupError(problem) from error
            logger.warning("%s", problem)
        yield database


@asynccontextmanager
async def _connected(dsn: Dsn, options: DatabaseOptions, retries: int) -> AsyncIterator[Database]:
    delay = FIRST_DELAY
    deadline = asyncio.get_running_loop().time() + ATTEMPTS_TIMEOUT
    for attempt in range(1, retries + 2):
        stack = AsyncExitStack()
        try:
            async with asyncio.timeout_at(deadline):
                database = await stack.enter_async_context(open_database(dsn, options, first_timeout=ADDRESS_TIMEOUT))
        except (psycopg.Error, OSError) as error:
            diagnosis = diagnose(error)
            is_late = asyncio.get_running_loop().time() >= deadline
            if attempt > retries or is_late or isinstance(error, Incompatible):
                attempts = f" after {attempt} attempts" if attempt > 1 else ""
                raise StartupError(f"No connection to the database {dsn}{attempts}: {diagnosis}") from error
            wait = delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter is not a secret
            logger.warning(
                "Attempt %d of %d to reach the database failed, the next is in %.1f s: %s",
                attempt, retries + 1, wait, diagnosis.problem,
            )  # fmt: skip
            await asyncio.sleep(wait)
            delay = min(delay * 2, LONGEST_DELAY)
        else:
            async with stack:
                yield database
            return


def _report(migrating: asyncio.Task[None]) -> None:
    if not migrating.cancelled() and (error := migrating.exception()):
        logger.error("The migration failed: %s", _reason(error))


def _reason(error: BaseException) -> object:
    """One line; psycopg's own errors have more."""
    return diagnose(error) if isinstance(error, psycopg.Error) else error


async def _migrate(dsn: Dsn, connect_timeout: int) -> None:
    for run in await asyncio.to_thread(migrator.migrate, dsn, connect_timeout=connect_timeout):
        logger.info("Migrated to %s (%s) in %.2f s.", run.revision, run.description, run.duration)
