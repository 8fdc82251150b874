"""The development data: one user whose password is public, with five tasks (D28)."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from persistence import addresses
from persistence.models import UNUSABLE_PASSWORD, Task, User
from persistence.postgres.database import Database
from persistence.tasks import LIVE, raised
from todos.passwords import hash_password

EMAIL = "test@example.com"
PASSWORD = "Test123!@#"  # noqa: S105 - public by design: S3-FR-023 names it, and production refuses the seed


@dataclass(frozen=True)
class Seeded:
    """The user, and the parts that had to be made."""

    user_id: UUID
    made_user: bool
    made_tasks: list[str]


async def seed(database: Database) -> Seeded:
    """Makes what is missing of the user and the five tasks; a task is known by its title. Any number may run at once.

    Nine round trips at most, and a quarter of a second for the password when there is no user yet.
    """
    async with database.session() as session:
        await (await session.connection()).exec_driver_sql(addresses.LOCK)
        return await _seed(session)


async def _seed(session: AsyncSession) -> Seeded:
    user = (await session.exec(select(User).where(col(User.email) == EMAIL))).first()
    made_user = user is None
    if user is None:
        user = User(email=EMAIL, name="Test User", email_verified=True)
        session.add(user)
        await session.flush()
    if user.password_hash == UNUSABLE_PASSWORD:
        user.password_hash = await asyncio.to_thread(hash_password, PASSWORD)
    present = set(await session.exec(select(Task.title).where(col(Task.user_id) == user.id, LIVE)))
    missing = [task for task in _tasks(datetime.now(UTC)) if task["title"] not in present]
    if missing:
        # Clients that have this user's tasks are told of the new ones (D40).
        version = (await session.exec(select(raised().c.revision), params={"user_id": user.id})).one()
        session.add_all([Task(user_id=user.id, version=version, **task) for task in missing])
    return Seeded(user.id, made_user, [task["title"] for task in missing])


def _tasks(now: datetime) -> list[dict[str, Any]]:
    """Two pending and three completed, the first one the newest."""
    day = timedelta(days=1)
    tasks: list[dict[str, Any]] = [
        {"title": "Write the quarterly report", "description": "Numbers from finance, text from us.",
         "priority": "high", "due_date": now + 7 * day, "tags": ["work", "writing"]},
        {"title": "Buy groceries", "priority": "medium", "due_date": now + day, "tags": ["home"]},
        {"title": "Call the dentist", "priority": "low", "completed_at": now - day},
        {"title": "Renew the passport", "description": "Bring two photos.", "priority": "high",
         "due_date": now + 30 * day, "tags": ["travel", "urgent"], "completed_at": now - 2 * day},
        {"title": "Read the PostgreSQL release notes", "priority": "medium", "tags": ["work", "reading"],
         "completed_at": now - 3 * day},
    ]  # fmt: skip
    for age, task in enumerate(tasks):
        task["status"] = "completed" if "completed_at" in task else "pending"
        task["created_at"] = task["updated_at"] = now - 4 * day - age * timedelta(minutes=1)
    return tasks
