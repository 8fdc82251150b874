from django.utils import timezone
from rest_framework import serializers

from benchmarks.peers.orm.models import Task


class TagField(serializers.CharField):
    def to_internal_value(self, data):
        return super().to_internal_value(data).lower()


class TaskSerializer(serializers.ModelSerializer):
    user_id = serializers.UUIDField(read_only=True)
    completed = serializers.BooleanField(read_only=True)
    tags = serializers.ListField(child=TagField(max_length=10), max_length=20, required=False)

    class Meta:
        model = Task
        fields = [
            "id", "user_id", "title", "description", "status", "completed", "priority", "due_date", "tags",
            "created_at", "updated_at", "completed_at", "version",
        ]  # fmt: skip
        read_only_fields = ["id", "created_at", "updated_at", "completed_at", "version"]

    def validate_due_date(self, value):
        if self.instance is None and value is not None and value < timezone.now():
            raise serializers.ValidationError("The due date of a new task cannot be in the past")
        return value

    def create(self, validated_data):
        task = Task(**validated_data)
        if task.completed:
            task.completed_at = task.created_at
        task.save(force_insert=True)
        return task

    def update(self, instance, validated_data):
        for attr, value in validated_data.items():
            setattr(instance, attr, value)
        instance.touch()
        instance.save()
        return instance
