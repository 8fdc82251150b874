from django.urls import path

from config.api import api
from config.assets import asset

urlpatterns = [
    path("api/", api.urls),
    path("static/ninja/<str:name>", asset, name="asset"),
]
