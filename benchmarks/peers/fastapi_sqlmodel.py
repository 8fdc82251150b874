"""FastAPI, SQLModel and asyncpg: a dependency opens a session for each request; then add, commit and refresh."""

import base64
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, Query
from pydantic import AwareDatetime, StringConstraints, computed_field, field_validator
from sqlalchemy import BigInteger, DateTime, Enum, Text, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=5,
    max_overflow=10,
    pool_pre_ping=True,
)
session_maker = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

app = FastAPI()


class Status(StrEnum):
    pending = "pending"
    completed = "completed"


class Priority(StrEnum):
    low = "low"
    medium = "medium"
    high = "high"


Tag = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=10)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=1000)]


def now() -> datetime:
    return datetime.now(UTC)


class User(SQLModel, table=True):
    __tablename__ = "users"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    email: str = Field(sa_type=Text, unique=True)


class TaskBase(SQLModel):
    title: Title = Field(sa_type=Text)
    description: Description | None = Field(default=None, sa_type=Text)
    status: Status = Field(default=Status.pending, sa_type=Enum(Status, name="task_status"))
    priority: Priority = Field(default=Priority.medium, sa_type=Enum(Priority, name="task_priority"))
    due_date: AwareDatetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    tags: list[Tag] = Field(default_factory=list, max_length=20, sa_type=ARRAY(Text))


class Task(TaskBase, table=True):
    __tablename__ = "tasks"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    user_id: UUID = Field(foreign_key="users.id")
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    completed_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    version: int | None = Field(
        default=None,
        sa_type=BigInteger,
        sa_column_kwargs={"server_default": text("(extract(epoch FROM now()) * 1000000)::bigint")},
    )


class TaskCreate(TaskBase):
    @field_validator("due_date")
    @classmethod
    def not_in_the_past(cls, value: datetime | None) -> datetime | None:
        if value is not None and value < now():
            raise ValueError("The due date of a new task cannot be in the past")
        return value


class TaskUpdate(SQLModel):
    title: Title | None = None
    description: Description | None = None
    status: Status | None = None
    priority: Priority | None = None
    due_date: AwareDatetime | None = None
    tags: list[Tag] | None = Field(default=None, max_length=20)


class TaskPublic(TaskBase):
    id: UUID
    user_id: UUID
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    version: int

    @computed_field
    @property
    def completed(self) -> bool:
        return self.status == Status.completed


class TaskPage(SQLModel):
    items: list[TaskPublic]
    next_cursor: str | None


async def get_session() -> AsyncIterator[AsyncSession]:
    async with session_maker() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


async def find_task(session: AsyncSession, user_id: UUID, task_id: UUID) -> Task:
    task = (await session.exec(select(Task).where(Task.id == task_id, Task.user_id == user_id))).first()
    if task is None:
        raise HTTPException(status_code=404, detail="Task not found")
    return task


def encode_cursor(task: Task) -> str:
    return base64.urlsafe_b64encode(f"{task.created_at.isoformat()} {task.id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, task_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return datetime.fromisoformat(created_at), UUID(task_id)
    except ValueError as error:
        raise HTTPException(status_code=400, detail="Invalid cursor") from error


@app.get("/api/{user_id}/tasks", response_model=TaskPage)
async def list_tasks(
    session: SessionDep,
    user_id: UUID,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    status: Status | None = None,
    tag: str | None = None,
    cursor: str | None = None,
):
    query = select(Task).where(Task.user_id == user_id)
    if status is not None:
        query = query.where(Task.status == status)
    if tag is not None:
        query = query.where(col(Task.tags).contains([tag]))
    if cursor is not None:
        query = query.where(tuple_(col(Task.created_at), col(Task.id)) < tuple_(*decode_cursor(cursor)))
    query = query.order_by(col(Task.created_at).desc(), col(Task.id).desc()).limit(limit + 1)
    tasks = (await session.exec(query)).all()
    next_cursor = encode_cursor(tasks[limit - 1]) if len(tasks) > limit else None
    return {"items": tasks[:limit], "next_cursor": next_cursor}


@app.post("/api/{user_id}/tasks", response_model=TaskPublic, status_code=201)
async def create_task(session: SessionDep, user_id: UUID, task: TaskCreate):
    db_task = Task.model_validate(task, update={"user_id": user_id})
    if db_task.status == Status.completed:
        db_task.completed_at = db_task.created_at
    session.add(db_task)
    try:
        await session.commit()
    except IntegrityError as error:
        raise HTTPException(status_code=404, detail="User not found") from error
    await session.refresh(db_task)
    return db_task


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def read_task(session: SessionDep, user_id: UUID, task_id: UUID):
    return await find_task(session, user_id, task_id)


@app.patch("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def update_task(session: SessionDep, user_id: UUID, task_id: UUID, task: TaskUpdate):
    db_task = await find_task(session, user_id, task_id)
    db_task.sqlmodel_update(task.model_dump(exclude_unset=True))
    db_task.updated_at = now()
    db_task.version += 1
    if db_task.status == Status.pending:
        db_task.completed_at = None
    elif db_task.completed_at is None:
        db_task.completed_at = db_task.updated_at
    session.add(db_task)
    await session.commit()
    await session.refresh(db_task)
    return db_task


@app.delete("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
async def delete_task(session: SessionDep, user_id: UUID, task_id: UUID):
    task = await find_task(session, user_id, task_id)
    await session.delete(task)
    await session.commit()
    return task
