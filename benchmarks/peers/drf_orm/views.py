from urllib.parse import parse_qs, urlsplit

from django.db import IntegrityError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from benchmarks.peers.drf_orm.serializers import TaskSerializer
from benchmarks.peers.orm.models import Task


class TaskPagination(CursorPagination):
    page_size = 100
    max_page_size = 500
    page_size_query_param = "limit"
    ordering = ("-created_at", "-id")

    def get_paginated_response(self, data):
        link = self.get_next_link()
        cursor = parse_qs(urlsplit(link).query)["cursor"][0] if link else None
        return Response({"items": data, "next_cursor": cursor})


class TaskViewSet(ModelViewSet):
    serializer_class = TaskSerializer
    pagination_class = TaskPagination

    def get_queryset(self):
        tasks = Task.objects.filter(user_id=self.kwargs["user_id"])
        query = self.request.query_params
        if self.action == "list":
            if "status" in query:
                tasks = tasks.filter(status=query["status"])
            if "tag" in query:
                tasks = tasks.filter(tags__contains=[query["tag"]])
        return tasks

    def perform_create(self, serializer):
        try:
            serializer.save(user_id=self.kwargs["user_id"])
        except IntegrityError as error:
            raise NotFound("User not found") from error

    def destroy(self, request, *args, **kwargs):
        task = self.get_object()
        answer = self.get_serializer(task).data
        task.delete()
        return Response(answer)
