"""The rows of the matrix, in the order of the issue's table."""

import importlib
import pkgutil

ORDER = ("postgres", "network", "pooling", "read_only", "conflicts", "server", "trust", "clock", "migrating")


def register() -> None:
    """Imports all modules of rows, which puts them into `matrix.FAULTS`."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    for name in sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        importlib.import_module(f"{__name__}.{name}")
