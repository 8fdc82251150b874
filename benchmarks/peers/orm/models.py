import time
from uuid import uuid4

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone


class Status(models.TextChoices):
    PENDING = "pending"
    COMPLETED = "completed"


class Priority(models.TextChoices):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def first_version() -> int:
    return time.time_ns() // 1000


class User(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4)
    email = models.TextField(unique=True)

    class Meta:
        managed = False
        db_table = "users"


class Task(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4)
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING, related_name="tasks")
    title = models.CharField(max_length=200)
    description = models.CharField(max_length=1000, null=True)
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    priority = models.CharField(max_length=6, choices=Priority, default=Priority.MEDIUM)
    due_date = models.DateTimeField(null=True)
    tags = ArrayField(models.TextField(), default=list)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True)
    version = models.BigIntegerField(default=first_version)

    class Meta:
        managed = False
        db_table = "tasks"

    @property
    def completed(self) -> bool:
        return self.status == Status.COMPLETED

    def touch(self) -> None:
        """Sets the columns that follow from a change."""
        self.updated_at = timezone.now()
        self.version += 1
        if not self.completed:
            self.completed_at = None
        elif self.completed_at is None:
            self.completed_at = self.updated_at
