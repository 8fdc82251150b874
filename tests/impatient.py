"""`config.gunicorn` with deadlines for tests that cannot wait for those that clients get."""

from typing import Any

from config import edge

# gunicorn has a setting of that name.
from config import protocol as connections
from config.gunicorn import *  # noqa: F403 - all of it, and a hook

connections.HEAD_TIMEOUT = connections.UNREAD_TIMEOUT = 1.0
edge.LINGER_SECONDS = 1.0


def post_worker_init(_worker: Any) -> None:
    # Only a worker may import it, so that a reload takes new code.
    from config import handler

    handler.BODY_TIMEOUT = 1.0
