"""The parts of gunicorn that the server stands on without a promise: one list, and the pieces that it replaces.

`tests/server/test_gunicorn_internals.py` holds the list against the installed release, which `pyproject.toml` pins.
"""

import time

from gunicorn.asgi import protocol
from gunicorn.workers import gasgi

from server.parser import Parser
from server.protocol import Protocol

NAMES = {
    "gunicorn.workers.gasgi": ["ASGIProtocol"],
    "gunicorn.workers.gasgi:ASGIWorker": [
        "_get_ssl_context", "_quick_shutdown", "_serve", "_shutdown", "handle_exit_signal", "handle_quit_signal",
        "init_signals", "nr_conns", "servers", "sockets", "state",
    ],
    "gunicorn.arbiter:Arbiter": [
        "LISTENERS", "WORKERS", "WORKER_BOOT_ERROR", "app", "cfg", "handle_hup", "handle_term", "kill_worker", "log",
        "manage_workers", "master_pid", "num_workers", "reap_workers", "reexec_pid", "reload", "setup", "spawn_worker",
        "spawn_workers", "stop", "systemd", "wait_for_signals", "worker_age",
    ],
    "gunicorn.asgi.protocol": ["PythonProtocol", "_REASON_PHRASES", "_cached_date_time", "_get_cached_date_header"],
    "gunicorn.asgi.protocol:ASGIProtocol": [
        "_arm_keepalive_timer", "_awaiting_request", "_body_receiver", "_build_http_scope", "_callback_parser",
        "_close_transport", "_closed", "_current_request", "_feed_callback_parser", "_finishing_calls", "_flow_control",
        "_is_websocket_upgrade", "_keepalive", "_max_buffer_size", "_request_ready", "_response_buffer", "_safe_write",
        "_send_error_response", "_send_response_start", "_task", "_will_close", "app", "req_count",
    ],
    "gunicorn.asgi.protocol:BodyReceiver": ["_chunks", "signal_disconnect"],
    "gunicorn.asgi.protocol:FlowControl": ["resume_writing"],
    "gunicorn.asgi.parser:PythonProtocol": [
        "_buffer", "_chunk_state", "_finalize_headers", "_find_line", "_has_invalid_header_chars", "_headers_list",
        "_is_valid_token", "_state", "http_version", "is_complete", "method", "path", "remaining",
    ],
    "gunicorn.util": ["parse_address"],
}  # fmt: skip
"""Modules, or classes after a colon, with the names that are used of each."""

_cached_date_header = protocol._get_cached_date_header  # noqa: SLF001 - see NAMES


def replace() -> None:
    """Makes gunicorn use our protocol and our parser; called in a worker before it listens."""
    gasgi.ASGIProtocol = Protocol
    protocol.PythonProtocol = Parser
    protocol._get_cached_date_header = _date_header  # noqa: SLF001
    # gunicorn would say "Unknown".
    protocol._REASON_PHRASES.setdefault(412, "Precondition Failed")  # noqa: SLF001


def _date_header() -> bytes:
    """The header Date, which would stand still for an hour if the clock were moved back by one."""
    if abs(time.time() - protocol._cached_date_time) >= 1:  # noqa: SLF001
        protocol._cached_date_time = 0.0  # noqa: SLF001
    header: bytes = _cached_date_header()
    return header
