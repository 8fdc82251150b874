from django.urls import path

from benchmarks.peers.drf_orm.views import TaskViewSet

TASKS = {"get": "list", "post": "create"}
TASK = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}

urlpatterns = [
    path("api/<uuid:user_id>/tasks", TaskViewSet.as_view(TASKS)),
    path("api/<uuid:user_id>/tasks/<uuid:pk>", TaskViewSet.as_view(TASK)),
]
