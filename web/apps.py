from django.apps import AppConfig


class WebConfig(AppConfig):
    """Makes Django find the command `export_openapi`; there are no Django models."""

    name = "web"
