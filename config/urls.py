from django.urls import path

from web.api import api
from web.assets import asset

urlpatterns = [
    path("api/", api.urls),
    path("api/static/ninja/<str:name>", asset, name="asset"),
]
