"""gunicorn's options: each works, is refused with the reason, or has a word in the documentation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS, Config

from config import gunicorn as ours
from persistence.postgres.dsn import Dsn
from server.options import AT_LEAST, REFUSED, refuse
from tests.docs.pages import DOCS, section
from tests.support.servers import LONG
from tests.support.sites import production

SECTION = section(DOCS / "configuration.md", "Options of gunicorn")
OTHER_VALUES: Mapping[str, Any] = {
    "worker_class": "sync", "threads": 4, "preload_app": True, "reuse_port": True, "raw_env": ["REQUEST_TIMEOUT=1"],
    "asgi_loop": "asyncio", "asgi_lifespan": "off", "http_parser": "auto", "root_path": "/todo",
    "control_socket_disable": False, "logger_class": "gunicorn.glogging.Logger", "logconfig": "log.ini",
    "logconfig_dict": {"version": 1}, "logconfig_json": "log.json", "syslog": True, "statsd_host": "localhost:8125",
    "limit_request_line": 100, "limit_request_fields": 10, "limit_request_field_size": 100,
    "permit_obsolete_folding": True, "strip_header_spaces": True, "permit_unconventional_http_method": True,
    "permit_unconventional_http_version": True, "casefold_http_method": True, "keyfile": "key", "certfile": "cert",
    "ca_certs": "ca", "http_protocols": "h1,h2", "http2_cleartext": "prior-knowledge", "proxy_protocol": "v1",
    "protocol": "uwsgi", "paste": "paste.ini", "raw_paste_global_conf": ["a=b"], "dirty_apps": ["a:B"],
    "dirty_workers": 1,
}  # fmt: skip


def config(**values: Any) -> Config:
    made = Config()
    for name, value in {**vars(ours), **values}.items():
        if name in made.settings:
            made.set(name, value)
    return made


def shown(setting: Any) -> list[str]:
    """The names under which an option may stand in the documentation."""
    return [f"`{name}`" for name in (*(setting.cli or ()), setting.name)]


@pytest.mark.parametrize("setting", KNOWN_SETTINGS, ids=lambda setting: setting.name)
def test_each_option_is_refused_or_documented(setting: Any) -> None:
    lines = [line for line in SECTION.splitlines() if any(name in line for name in shown(setting))]

    assert lines, f"what becomes of {setting.name}?"
    assert [line.rpartition("` | ")[2] for line in lines if setting.name in REFUSED] == [
        f"{reason} |" for name, reason in REFUSED.items() if name == setting.name
    ]


def test_our_own_settings_are_taken() -> None:
    refuse(config(), vars(ours))


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_break_a_promise_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(RuntimeError, match="cannot be set") as refusal:
        refuse(config(**{name: OTHER_VALUES[name]}), vars(ours))

    assert REFUSED[name] in str(refusal.value)
    assert str(refusal.value).count("cannot be set") == 1


@pytest.mark.parametrize("name", AT_LEAST)
def test_a_value_that_would_break_a_promise_is_refused_with_the_least_and_the_reason(name: str) -> None:
    bound, reason = AT_LEAST[name]
    least = getattr(ours, name) if bound is None else bound
    refuse(config(**{name: least}), vars(ours))

    with pytest.raises(RuntimeError, match=rf"must be at least {least}: {reason}"):
        refuse(config(**{name: least - 1}), vars(ours))
    assert any(f"`{Config().settings[name].cli[-1]}`" in line and reason in line for line in SECTION.splitlines())


def test_a_log_level_that_does_not_exist_is_refused() -> None:
    refuse(config(loglevel="DEBUG"), vars(ours))

    with pytest.raises(RuntimeError, match="--log-level must be one of critical, error, warning, info, debug"):
        refuse(config(loglevel="loud"), vars(ours))


def test_a_server_with_a_refused_option_does_not_start(migrated_dsn: Dsn, tmp_path: Path) -> None:
    file = tmp_path / "here.py"
    file.write_text("from config.gunicorn import *\nthreads = 4\n")
    web = production(migrated_dsn, tmp_path, "-c", str(file))
    web.start()
    try:
        assert web.process.wait(LONG) == 1
    finally:
        web.end()

    assert f"Error: --threads cannot be set: {REFUSED['threads']}." in web.log
    assert "Traceback" not in web.log
    assert "Booting worker" not in web.log


def test_metrics_cannot_have_the_address_of_the_api() -> None:
    settings = {**vars(ours), "metrics_bind": "127.0.0.1:8000"}

    refuse(config(bind=["127.0.0.1:9000"]), settings)
    with pytest.raises(RuntimeError, match=r"^METRICS_BIND cannot be .*, where --bind has the API listen"):
        refuse(config(bind=["127.0.0.1:9000", "127.0.0.1:8000"]), settings)
