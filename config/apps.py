from typing import override

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Makes Django find the checks of a deployment; there are no Django models."""

    name = "config"

    @override
    def ready(self) -> None:
        from config import checks  # noqa: F401 - they register themselves
