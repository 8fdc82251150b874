from django.apps import AppConfig


class TodosConfig(AppConfig):
    """Makes Django find the management commands; there are no Django models."""

    name = "todos"
