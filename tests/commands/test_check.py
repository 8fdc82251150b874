"""`manage.py check --deploy`: each setting that does harm in production is named, and no other."""

from typing import Any

import pytest
from django.core.checks import run_checks

from config.checks import RULES, Deployment, problems
from config.env import Env
from tests.support.servers import manage

GOOD: dict[str, Any] = {
    "environment": "production",
    "database_url": "postgresql://todo_server:hunter2@db.example.com/todo",
    "database_url_direct": "postgresql://todo_owner:hunter2@db.example.com/todo",
    "auth_mode": "jwt",
    "auth_issuer": "https://auth.example.com",
    "auth_audience": "todo",
    "auth_jwks_url": "https://auth.example.com/jwks",
    "cors_origins": "https://todo.example.com",
    "metrics_bind": "127.0.0.1:9100",
    "user_requests_per_minute": 600,
    "user_tasks_max": 10_000,
    "shutdown_delay": 10,
}
POOLED, NEON = "postgresql://todo_server@db.example.com:6432/todo", "postgresql://a@ep-x-1-pooler.example.com/todo"

HARMFUL: list[tuple[str, dict[str, Any]]] = [
    ("todo.E001", {"environment": "development"}),
    ("todo.W001", {"auth_mode": "trusted"}),
    ("todo.W002", {"user_requests_per_minute": 0}),
    ("todo.W002", {"user_tasks_max": 0}),
    ("todo.W003", {"cors_origins": "http://localhost:3000"}),
    ("todo.W003", {"cors_origins": "https://todo.example.com,https://[::1]:3000"}),
    ("todo.W004", {"cors_origins": "http://todo.example.com"}),
    ("todo.W005", {"auth_jwks_url": "http://auth:3000/jwks"}),
    ("todo.W006", {"auth_max_lifetime": 24 * 3600 + 1}),
    ("todo.W007", {"database_url": POOLED}),
    ("todo.W008", {"database_url": POOLED, "database_pooler": True, "database_url_direct": None}),
    ("todo.W009", {"database_url_direct": "postgresql://todo_server@other.example.com/todo"}),
    ("todo.W010", {"auto_migrate": True}),
    ("todo.W011", {"database_url": GOOD["database_url"] + "?sslmode=require"}),
    ("todo.W011", {"database_url": GOOD["database_url"] + "?sslmode=verify-ca"}),
    ("todo.W011", {"database_url_direct": GOOD["database_url_direct"] + "?sslmode=require"}),
    ("todo.W012", {"metrics_bind": "0.0.0.0:9100"}),
    ("todo.W012", {"metrics_bind": "0:9100"}),
    ("todo.W012", {"metrics_bind": "[::]:9100"}),
    ("todo.W013", {"database_pool_max": 26}),
    ("todo.W014", {"trash_days": 6}),
    ("todo.W015", {"tombstone_days": 29}),
    ("todo.I001", {"shutdown_delay": 0}),
]
HARMLESS: list[dict[str, Any]] = [
    {},
    {"trash_days": 7, "tombstone_days": 30},
    {"database_url_direct": None, "metrics_bind": None, "cors_origins": ""},
    {"auth_jwks_url": "http://127.0.0.1:3000/jwks", "metrics_bind": "unix:/run/todo/metrics.sock"},
    {"database_url": POOLED, "database_pooler": True, "database_pool_max": 100},
    # Migrations find the way around Neon's pooler by themselves.
    {"database_url": NEON, "database_url_direct": None},
    {"database_url": "postgresql:///todo?host=/run/postgresql"},
    {"database_url": GOOD["database_url"] + "?sslmode=verify-ca&sslrootcert=/etc/todo/authority.pem"},
    {"database_url": GOOD["database_url"] + "?sslmode=verify-ca&sslrootcert=%2Fetc%2Ftodo%2Fauthority.pem"},
    {"database_url": "postgresql://todo_server@127.0.0.1/todo?sslmode=require"},
]


def found(changes: dict[str, Any], workers: int = 4) -> set[str]:
    return {str(problem.id) for problem in problems(Deployment(Env(_env_file=None, **GOOD | changes), workers))}


@pytest.mark.parametrize(("name", "changes"), HARMFUL)
def test_a_setting_that_does_harm_is_named_and_no_other(name: str, changes: dict[str, Any]) -> None:
    assert found(changes) == {name}


@pytest.mark.parametrize("changes", HARMLESS)
def test_nothing_is_said_of_settings_that_do_no_harm(changes: dict[str, Any]) -> None:
    assert found(changes) == set()


def test_each_check_is_tried() -> None:
    assert {name for name, _ in HARMFUL} == RULES.keys()


def test_the_command_shows_what_it_finds_with_hints_and_no_secret() -> None:
    harmful = {"DATABASE_URL": POOLED.replace("@", ":hunter2@"), "WEB_CONCURRENCY": "9", "ENVIRONMENT": "development"}
    environment = {name.upper(): str(value) for name, value in GOOD.items()}
    blamed = manage("check", "--deploy", environment=environment | harmful)

    assert blamed.returncode == 1
    for name in ("todo.E001", "todo.W007", "todo.W013"):
        assert f"({name}) {RULES[name].harm}\n\tHINT: {RULES[name].hint}" in blamed.stderr
    assert blamed.stderr.count("(todo.") == 3
    assert "hunter2" not in blamed.stderr
    assert "security." not in blamed.stderr


def test_only_a_deployment_is_checked_for_harm() -> None:
    # The tests are no deployment: ENVIRONMENT is development.
    assert run_checks() == []
    assert "todo.E001" in {problem.id for problem in run_checks(include_deployment_checks=True)}
