"""The scenarios of the matrix, from the database outward."""

import importlib

MODULES = (
    "postgres", "network", "pooling", "read_only", "conflicts", "server", "master", "clients", "authentication",
    "sign_in", "clock", "migrations", "hostile_bytes", "sync", "citus",
)  # fmt: skip


def register() -> None:
    """Imports all modules of scenarios, which adds them to `matrix.SCENARIOS`."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
