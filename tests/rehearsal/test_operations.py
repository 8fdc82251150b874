"""docs/operations.md, done from nothing on a fresh machine, and looked at from outside.

The tests run in this order: those at the end change the machine.
"""

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from tests.alarms.page import Page
from tests.rehearsal import page
from tests.rehearsal.conftest import DOMAIN, Rehearsal
from tests.support.servers import ROOT, eventually

ALERTS = re.findall(r"- alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
INSIDE = {5432: "PostgreSQL", 6432: "PgBouncer", 8000: "the API", 9090: "Prometheus", 9464: "metrics"}


@pytest.fixture
def client(rehearsal: Rehearsal) -> httpx.Client:
    return rehearsal.outside.client


def test_the_server_is_ready_over_https(client: httpx.Client) -> None:
    answer = client.get("/api/v1/ready")

    assert answer.status_code == 200
    assert "Strict-Transport-Security" in answer.headers


def test_http_leads_to_https(rehearsal: Rehearsal) -> None:
    answer = httpx.get(f"http://{rehearsal.outside.address}/api/v1/live", headers={"Host": DOMAIN})

    assert answer.status_code == 308
    assert answer.headers["Location"] == f"https://{DOMAIN}/api/v1/live"


def test_certbot_can_renew_the_certificate(rehearsal: Rehearsal) -> None:
    folder = "/var/www/html/.well-known/acme-challenge"
    rehearsal.machine.run(f"mkdir -p {folder} && echo proof >{folder}/token")

    answer = httpx.get(f"http://{rehearsal.outside.address}/.well-known/acme-challenge/token", headers={"Host": DOMAIN})

    assert answer.text == "proof\n"


def test_only_the_owner_gets_to_tasks(client: httpx.Client, rehearsal: Rehearsal) -> None:
    alice, bob = str(uuid4()), str(uuid4())
    headers = rehearsal.outside.signed_in(alice)

    assert client.post(f"/api/{alice}/tasks", json={"title": "Water the plants"}, headers=headers).status_code == 201
    listed = client.get(f"/api/{alice}/tasks", headers=headers)
    assert listed.status_code == 200
    assert [task["title"] for task in listed.json()["items"]] == ["Water the plants"]
    assert client.get(f"/api/{bob}/tasks", headers=headers).status_code == 403
    assert client.get(f"/api/{alice}/tasks").status_code == 401


@pytest.mark.parametrize("port", INSIDE, ids=INSIDE.values())
def test_nothing_but_the_proxy_can_be_reached(port: int, rehearsal: Rehearsal) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((rehearsal.outside.address, port), timeout=5).close()


def test_metrics_cannot_be_reached_through_the_proxy(client: httpx.Client) -> None:
    assert client.get("/metrics").status_code == 404
    assert client.get("/api/metrics").status_code == 404


def test_both_workers_serve(client: httpx.Client, rehearsal: Rehearsal) -> None:
    [workers] = re.findall(
        r"^todo_workers (\S+)", rehearsal.machine.run("curl -s 127.0.0.1:9464/metrics"), re.MULTILINE
    )
    assert float(workers) == 2

    def connected() -> set[str]:
        with concurrent_requests(rehearsal, 20):
            listed = rehearsal.machine.run("ss -Htnp state established '( sport = :8000 )'")
        return set(re.findall(r"pid=(\d+)", listed))

    eventually(lambda: len(connected()) == 2, timeout=30)


def test_every_connection_to_the_database_is_encrypted(client: httpx.Client, rehearsal: Rehearsal) -> None:
    clients = pgbouncer(rehearsal, "SHOW CLIENTS", "todo_server")
    servers = pgbouncer(rehearsal, "SHOW SERVERS", "todo_server")

    assert clients
    assert servers
    assert not [line for line in (*clients, *servers) if "TLSv1.3" not in line]
    states = as_postgres(
        rehearsal,
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'todo_server'",
    )
    assert states == "t"


@pytest.mark.parametrize("port", [5432, 6432])
def test_a_connection_without_encryption_is_refused(port: int, rehearsal: Rehearsal) -> None:
    refused = as_server(rehearsal, "SELECT 1", f":{port}", "sslmode=disable")

    assert "no encryption" in refused or "SSL required" in refused


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE other (id int)",
        "CREATE TEMPORARY TABLE other (id int)",
        "DROP TABLE tasks",
        "TRUNCATE tasks",
        "SELECT email FROM users",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_the_role_of_the_server_can_do_nothing_else(statement: str, rehearsal: Rehearsal) -> None:
    refused = as_server(rehearsal, statement)

    assert "permission denied" in refused or "must be owner" in refused, refused


def test_the_service_cannot_read_the_password_of_the_owner(rehearsal: Rehearsal) -> None:
    tried = rehearsal.machine.run(
        "runuser -u todo -- cat /etc/todo/secrets/database-url >/dev/null && echo own is readable;"
        "runuser -u todo -- cat /etc/todo/secrets/database-url-direct 2>&1 || true"
    )

    assert "own is readable" in tried
    assert "Permission denied" in tried


def test_the_log_has_a_line_of_json_for_each_request_and_no_token(rehearsal: Rehearsal) -> None:
    token = rehearsal.outside.token()
    rehearsal.outside.client.get("/api/me/tasks", headers={"Authorization": f"Bearer {token}"})

    def requests() -> list[dict[str, object]]:
        log = rehearsal.machine.run("journalctl --unit todo --output cat --lines 20")
        assert token not in log
        lines = [orjson.loads(line) for line in log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("route") == "/api/{user_id}/tasks"]

    eventually(lambda: bool(requests()), timeout=10)


def test_prometheus_asks_the_server_and_knows_every_alert(rehearsal: Rehearsal) -> None:
    eventually(lambda: value_of(rehearsal, 'up{job="todo"}') == ["1"], timeout=60)
    [group] = prometheus(rehearsal, "rules")["groups"]

    assert [rule["name"] for rule in group["rules"]] == ALERTS
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}


@pytest.mark.parametrize("alarm", ALERTS)
def test_the_runbook_can_be_followed_here(alarm: str, rehearsal: Rehearsal) -> None:
    for command in Page(alarm)._look:
        printed = rehearsal.machine.run(f"{{ {command}\n}} 2>&1 || :")
        assert not re.search("not found|No such|denied|not exist|FATAL|could not|Error", printed), (
            f"{command}\n{printed}"
        )


def test_a_new_version_with_a_migration_is_deployed_without_a_failed_request(rehearsal: Rehearsal) -> None:
    revisions = sorted(path.name[:4] for path in (ROOT / "migrations/versions").glob("0*.py"))
    newest = f"{int(revisions[-1]) + 1:04}"
    rehearsal.repository.change("v1.0.1", {
        f"migrations/versions/{newest}_mark_the_rehearsal.py": REVISION.format(newest, revisions[-1]),
        "pyproject.toml": re.sub(
            '^version = ".*"$', 'version = "1.0.1"', (ROOT / "pyproject.toml").read_text(), count=1, flags=re.MULTILINE
        ),
    })  # fmt: skip

    with concurrent_requests(rehearsal, 4) as answers:
        rehearsal.do(page.DEPLOY)
        eventually(lambda: 'version="1.0.1"' in rehearsal.machine.run("curl -s 127.0.0.1:9464/metrics"), timeout=60)
        time.sleep(3)

    assert answers.keys() == {200, 201}, answers
    assert newest in rehearsal.machine.run("todo-manage migrate_sql --status --json")


def test_a_new_version_with_other_libraries_needs_a_restart_that_fails_no_request(rehearsal: Rehearsal) -> None:
    lock = "requirements/production.txt"
    rehearsal.repository.change("v1.0.2", {lock: f"{(ROOT / lock).read_text(encoding='utf-8')}# changed\n"})
    before = rehearsal.machine.run("systemctl show --property MainPID todo")

    with concurrent_requests(rehearsal, 4) as answers:
        rehearsal.do(page.DEPLOY)
        rehearsal.machine.run("systemctl daemon-reload && systemctl restart todo")
        eventually(lambda: rehearsal.outside.status("/api/v1/ready") == 200, timeout=60)
        time.sleep(3)

    assert rehearsal.machine.run("systemctl show --property MainPID todo") != before

    assert answers.keys() == {200, 201}, answers


def test_the_loss_of_postgresql_is_told_at_once_and_its_return_needs_nobody(rehearsal: Rehearsal) -> None:
    client, headers = rehearsal.outside.client, rehearsal.outside.signed_in()
    rehearsal.machine.run("systemctl stop postgresql@17-main")
    started = time.monotonic()
    answer = client.get("/api/me/tasks", headers=headers)

    assert answer.status_code == 503
    assert time.monotonic() - started < 2
    assert client.get("/api/v1/live").status_code == 200
    assert client.get("/api/v1/ready").status_code == 503

    def pending() -> set[str]:
        client.get("/api/me/tasks", headers=headers)
        return {alert["labels"]["alertname"] for alert in prometheus(rehearsal, "alerts")["alerts"]}

    # PgBouncer still takes connections, so for the server none is lost.
    eventually(lambda: "TodoErrors" in pending(), timeout=90)
    rehearsal.machine.run("systemctl start postgresql@17-main")
    eventually(lambda: client.get("/api/me/tasks", headers=headers).status_code == 200, timeout=10)
    assert client.get("/api/v1/ready").status_code == 200


def test_a_backup_is_restored_as_the_page_says(rehearsal: Rehearsal) -> None:
    client, headers = rehearsal.outside.client, rehearsal.outside.signed_in()
    before = client.post("/api/me/tasks", json={"title": "Before the backup"}, headers=headers).json()["id"]
    erased = rehearsal.outside.signed_in()
    assert client.post("/api/me/tasks", json={"title": "Of a user who goes"}, headers=erased).status_code == 201
    rehearsal.machine.run("systemctl start todo-backup")
    assert client.delete("/api/v1/me", headers=erased).status_code == 204
    rehearsal.machine.run("todo-manage list_users --erased --json >>/var/backups/todo/erased.jsonl")
    after = client.post("/api/me/tasks", json={"title": "After the backup"}, headers=headers).json()["id"]

    rehearsal.do(page.RESTORE)

    assert client.get(f"/api/me/tasks/{before}", headers=headers).status_code == 200
    assert client.get(f"/api/me/tasks/{after}", headers=headers).status_code == 404
    assert client.get("/api/v1/me", headers=erased).status_code == 403


def test_everything_comes_up_by_itself_after_a_restart_of_the_machine(rehearsal: Rehearsal) -> None:
    rehearsal.machine.restart()
    rehearsal.outside.move(rehearsal.machine.address)

    eventually(lambda: rehearsal.outside.status("/api/v1/ready") == 200, timeout=60)
    headers = rehearsal.outside.signed_in()
    created = rehearsal.outside.client.post("/api/me/tasks", json={"title": "Say hello"}, headers=headers)
    assert created.status_code == 201


REVISION = '''"""Mark the rehearsal."""

from alembic import op

revision, down_revision = "{}", "{}"


def upgrade() -> None:
    op.execute("COMMENT ON TABLE tasks IS 'rehearsed'")


def downgrade() -> None:
    op.execute("COMMENT ON TABLE tasks IS NULL")
'''


@contextmanager
def concurrent_requests(rehearsal: Rehearsal, clients: int) -> Iterator[Counter[int | str]]:
    """How often each status has come to clients that write and read all the while."""
    answers: Counter[int | str] = Counter()
    over = threading.Event()

    def ask() -> None:
        headers = rehearsal.outside.signed_in()
        with rehearsal.outside.another() as client:
            while not over.is_set():
                for method, json in (("POST", {"title": "Water the plants"}), ("GET", None)):
                    try:
                        answers[client.request(method, "/api/me/tasks", json=json, headers=headers).status_code] += 1
                    except httpx.TransportError as error:
                        answers[repr(error)] += 1
                # Below the limit of a user.
                time.sleep(0.25)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def pgbouncer(rehearsal: Rehearsal, command: str, word: str) -> list[str]:
    """The lines of the administrator's console that have the word."""
    listed = rehearsal.machine.run(
        f"runuser -u postgres -- psql -h /var/run/postgresql -p 6432 -U pgbouncer -At -c '{command}' pgbouncer"
    )
    return [line for line in listed.splitlines() if word in line]


def as_postgres(rehearsal: Rehearsal, statement: str) -> str:
    return rehearsal.machine.run(f'runuser -u postgres -- psql -At -c "{statement}" todo').strip()


def as_server(rehearsal: Rehearsal, statement: str, port: str = ":6432", tls: str = "sslmode=verify-ca") -> str:
    """What psql prints as the role of the server, which must fail."""
    return rehearsal.machine.run(
        f"url=$(sed 's/:6432/{port}/; s/sslmode=verify-ca/{tls}/' /etc/todo/secrets/database-url);"
        f'! psql "$url" -c "{statement}" 2>&1'
    )


def prometheus(rehearsal: Rehearsal, path: str) -> Any:
    return orjson.loads(rehearsal.machine.run(f"curl -s 'http://127.0.0.1:9090/api/v1/{path}'"))["data"]


def value_of(rehearsal: Rehearsal, expression: str) -> list[str]:
    found = rehearsal.machine.run(f"promtool query instant http://127.0.0.1:9090 '{expression}'")
    return re.findall(r"=> (\S+)", found)
