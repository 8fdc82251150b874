"""The settings of gunicorn for a server whose users' writes do not wait for each other, for comparison."""

from collections.abc import Hashable

from config.gunicorn import *  # noqa: F403 - all settings are as they are there
from persistence.postgres.turns import Turns


async def _take(self: Turns, key: Hashable, patience: float, most: float) -> None:
    pass


def _pass_on(self: Turns, key: Hashable) -> None:
    pass


Turns.take, Turns.pass_on = _take, _pass_on  # type: ignore[method-assign] # It is what this module is for
