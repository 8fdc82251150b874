import base64
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Q
from django.shortcuts import get_object_or_404
from ninja import NinjaAPI, Query
from ninja.errors import HttpError

from benchmarks.peers.ninja_orm.schemas import TaskIn, TaskOut, TaskPage, TaskPatch
from benchmarks.peers.orm.models import Status, Task

api = NinjaAPI()


def encode_cursor(task: Task) -> str:
    return base64.urlsafe_b64encode(f"{task.created_at.isoformat()} {task.id}".encode()).decode()


def after(cursor: str) -> Q:
    try:
        created_at, task_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        moment, last = datetime.fromisoformat(created_at), UUID(task_id)
    except ValueError as error:
        raise HttpError(400, "Invalid cursor") from error
    return Q(created_at__lt=moment) | Q(created_at=moment, id__lt=last)


@api.get("/{uuid:user_id}/tasks", response=TaskPage)
def list_tasks(
    request,
    user_id: UUID,
    limit: int = Query(100, ge=1, le=500),
    status: Status | None = None,
    tag: str | None = None,
    cursor: str | None = None,
):
    tasks = Task.objects.filter(user_id=user_id)
    if status is not None:
        tasks = tasks.filter(status=status)
    if tag is not None:
        tasks = tasks.filter(tags__contains=[tag])
    if cursor is not None:
        tasks = tasks.filter(after(cursor))
    items = list(tasks.order_by("-created_at", "-id")[: limit + 1])
    next_cursor = encode_cursor(items[limit - 1]) if len(items) > limit else None
    return {"items": items[:limit], "next_cursor": next_cursor}


@api.post("/{uuid:user_id}/tasks", response={201: TaskOut})
def create_task(request, user_id: UUID, payload: TaskIn):
    task = Task(user_id=user_id, **payload.dict())
    if task.completed:
        task.completed_at = task.created_at
    try:
        task.save(force_insert=True)
    except IntegrityError as error:
        raise HttpError(404, "User not found") from error
    return 201, task


@api.get("/{uuid:user_id}/tasks/{uuid:task_id}", response=TaskOut)
def get_task(request, user_id: UUID, task_id: UUID):
    return get_object_or_404(Task, user_id=user_id, id=task_id)


@api.patch("/{uuid:user_id}/tasks/{uuid:task_id}", response=TaskOut)
def update_task(request, user_id: UUID, task_id: UUID, payload: TaskPatch):
    task = get_object_or_404(Task, user_id=user_id, id=task_id)
    for attr, value in payload.dict(exclude_unset=True).items():
        setattr(task, attr, value)
    task.touch()
    task.save()
    return task


@api.delete("/{uuid:user_id}/tasks/{uuid:task_id}", response=TaskOut)
def delete_task(request, user_id: UUID, task_id: UUID):
    task = get_object_or_404(Task, user_id=user_id, id=task_id)
    answer = TaskOut.from_orm(task)
    task.delete()
    return answer
