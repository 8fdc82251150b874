"""How gunicorn serves: `gunicorn -c python:config.gunicorn`. `--bind`, `--workers` and the rest override these."""

import sys
from contextlib import ExitStack
from typing import Any

from config.env import ROOT, env

wsgi_app = "config.asgi:application"
chdir = str(ROOT)
worker_class = "config.worker.Worker"
proc_name = "todo"

# The start may take almost 30 seconds while the database is away (D14), and a worker shows no sign of life until then.
timeout = 60
# In-flight requests end within their own deadline, and the worker stops waiting before the master kills it.
graceful_timeout = int(env.request_timeout) + 4
# A client that hangs up must not cancel its write: the request ends by its own deadline.
asgi_disconnect_grace_period = int(env.request_timeout) + 5
asgi_lifespan = "on"
# Longer than the idle timeout of the usual load balancers (60 s), which must be the ones to close.
keepalive = 65
# A query with every filter, all of them in characters that take 12 bytes in a URL, is longer than the default allows.
limit_request_line = 8190
worker_connections = 10_000
control_socket_disable = True
loglevel = "info"

_resources = ExitStack()


def on_starting(_server: Any) -> None:
    """Keeps the development database up while workers come and go."""
    if not env.is_production:
        _resources.enter_context(env.located_database())


def on_exit(_server: Any) -> None:
    _resources.close()


def post_fork(server: Any, _worker: Any) -> None:
    """A worker that was started anew after a change must import the project anew; the master has parts of it."""
    if server.cfg.reload:
        for name in list(sys.modules):
            if name.partition(".")[0] in ("config", "persistence", "todos"):
                del sys.modules[name]
