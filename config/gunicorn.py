"""The settings of `gunicorn -c python:config.gunicorn`; `--bind`, `--workers` and other options override them."""

import signal
import sys
from contextlib import ExitStack
from importlib import import_module
from typing import Any

# gunicorn handles signals only after `on_starting`. Until then one would end the server with another status than 0 or
# with a traceback, and process 1 of a container not at all.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(_number, lambda *_: sys.exit())
# `manage.py runserver` leaves it blocked.
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

from config.env import ROOT, env  # noqa: E402 - importing takes time, in which the signal may come
from server.limits import CLOSE_SECONDS, DRAIN_SECONDS, HEADER_MAX, HEADERS_MAX, LINE_MAX  # noqa: E402 - as above
from server.master import Master  # noqa: E402 - as above

wsgi_app = "config.asgi:application"
chdir = str(ROOT)
worker_class = "server.worker.Worker"
logger_class = f"server.log_stream.{'JsonLogger' if env.is_production else 'Logger'}"
proc_name = "todo"

# Not one of gunicorn's own: server/master.py reads it.
shutdown_delay = env.shutdown_delay
# In-flight requests end within a second of their own deadline. Before and after that come the steps of a stop.
graceful_timeout = DRAIN_SECONDS + int(env.request_timeout) + 1 + CLOSE_SECONDS
# The start may take almost 30 seconds while the database is away (D14). Until it serves, and while it stops, a worker
# shows no sign of life.
timeout = max(60, graceful_timeout + 1)
# A client that hangs up must not cancel its write: the request ends by its own deadline.
asgi_disconnect_grace_period = int(env.request_timeout) + 5
asgi_lifespan = "on"
# Longer than the idle timeout of the usual load balancers (60 s), which must be the ones to close.
keepalive = 65
limit_request_line = LINE_MAX
limit_request_fields = HEADERS_MAX
limit_request_field_size = HEADER_MAX
# Our own rules for the head of a request are on top of this one's.
http_parser = "python"
# Or fewer, as the limit of open files says.
worker_connections = 10_000
control_socket_disable = True
loglevel = "info"

# Not one of gunicorn's own: server/master.py reads it.
metrics_bind = env.metrics_bind

_resources = ExitStack()
_LIBRARIES = ("alembic.command", "django.core.handlers.asgi", "orjson", "psycopg.types.json", "sqlmodel", "uvloop")
"""Libraries that take most of a worker's start, and neither start threads nor open files when they are imported.

Nothing of ours is among them: what the master has loaded no reload renews.
"""
_LIBRARIES_OF_TOKENS = ("httpx2", "jwt")
"""The same where tokens are asked for: 130 ms and 2.6 MB of each worker."""
_LIBRARIES_OF_METRICS = ("prometheus_client.core", "prometheus_client.exposition")


def on_starting(server: Any) -> None:
    """Loads libraries for all workers, which then start in a third of the time.

    It also keeps the development database up while workers come and go.
    """
    Master.take_over(server, globals())
    of_tokens = _LIBRARIES_OF_TOKENS if env.token_rules else ()
    of_metrics = _LIBRARIES_OF_METRICS if env.metrics_bind else ()
    for name in (*_LIBRARIES, *of_tokens, *of_metrics):
        import_module(name)
    if not env.is_production:
        # SIGHUP means that the terminal was closed. `nohup` has it ignored, so that the server goes on.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            server.handle_hup = server.handle_term
        _resources.enter_context(env.database_location.running())


def when_ready(server: Any) -> None:
    server.check_listeners()


def pre_fork(server: Any, worker: Any) -> None:
    server.assign_slot(worker)


def child_exit(server: Any, worker: Any) -> None:
    server.release_slot(worker)


def on_exit(_server: Any) -> None:
    _resources.close()
