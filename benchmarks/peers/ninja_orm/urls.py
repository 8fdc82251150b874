from django.urls import path

from benchmarks.peers.ninja_orm.api import api

urlpatterns = [path("api/", api.urls)]
