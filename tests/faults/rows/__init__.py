"""The rows of the matrix, from the database outward."""

import importlib
import pkgutil

ORDER = (
    "postgres", "network", "pooling", "read_only", "conflicts", "server", "crowds", "trust", "clock", "migrating",
    "hostile",
)  # fmt: skip


def register() -> None:
    """Imports all modules of rows, which puts them into `matrix.FAULTS`."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    for name in sorted(names, key=ORDER.index):
        importlib.import_module(f"{__name__}.{name}")
