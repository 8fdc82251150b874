"""No value of a client and no secret of the operator leaves by the log, by metrics or by a problem (D18, D47)."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from tests.support.databases import as_owner
from tests.support.issuer import Issuer, SigningKey
from tests.support.processes import free_port
from tests.support.servers import PostgresServer
from tests.support.sites import production
from tests.support.sockets import all_from, connect

LEAKING = "tests.support.leaking:application"
RAISE_THE_ROW = """
CREATE FUNCTION raise_the_row() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE '%', new USING ERRCODE = 'internal_error'; END $$;
CREATE TRIGGER raise_the_row BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION raise_the_row();
"""
PASSWORD = "canary-of-a-password"
CANARIES = {
    name: f"canary-of-{name}"
    for name in (
        "title", "description", "query", "header", "cookie", "agent", "referer", "key", "match", "kind", "body",
        "line", "origin", "trace", "id", "path", "subject", "field", "parameter",
    )
} | {"email": "canary@example.com", "password": PASSWORD, "tag": "tagcanary"}  # fmt: skip
REPEATED = ("field", "parameter", "kind")
"""Names that a client made up, and the content type of its body: the problem is about them, so it repeats them."""
HEADERS = {
    "Cookie": f"session={CANARIES['cookie']}", "User-Agent": CANARIES["agent"], "Referer": CANARIES["referer"],
    "X-Secret": CANARIES["header"], "traceparent": CANARIES["trace"],
    "X-Request-ID": f"{CANARIES['id']} is no id", "Origin": f"https://{CANARIES['origin']}.example.com",
}  # fmt: skip
TASK: dict[str, Any] = {
    "title": CANARIES["title"], "description": CANARIES["description"], "tags": [CANARIES["tag"]],
}  # fmt: skip


def every_kind_of_token(issuer: Issuer) -> list[str]:
    good = issuer.token(CANARIES["subject"], email=CANARIES["email"])
    forger = SigningKey(kid=issuer.keys[0].kid)
    subject, email = CANARIES["subject"], CANARIES["email"]
    return [
        good,
        issuer.token(subject, iat=0, exp=900),
        issuer.token(subject, iss=f"{issuer.url}/"),
        issuer.token(subject, aud="https://elsewhere.example.com"),
        issuer.token(subject, exp=email),
        issuer.token(subject, header={"alg": subject}),
        issuer.token(subject, header={"crit": [email]}),
        issuer.token("", email=email),
        issuer.token(subject, key=SigningKey(kid=email)),
        issuer.token(subject, iss=email, aud=email, key=forger),
        good[:-20],
        subject,
    ]


def leaks(text: str, secrets: set[str]) -> list[str]:
    return [line for line in text.splitlines() if any(secret.lower() in line.lower() for secret in secrets)]


def bodies() -> list[str]:
    value = CANARIES["body"]
    return [
        value,
        f'"{value}"',
        f'{{"title": "{value}"',
        f'{{"title": ["{value}"]}}',
        f'{{"title": "{value}", "title": "{value}"}}',
        f'{{"{CANARIES["field"]}": "{value}"}}',
        *(f'{{"title": "{value}", "{name}": "{value}"}}' for name in ("due_date", "tags", "status", "id")),
    ]


def queries() -> list[str]:
    names = (CANARIES["parameter"], "status", "cursor", "limit", "due_before", "sort", "tag")
    return [f"{name}={CANARIES['query']}" for name in names]


LEVELS = [(name, level) for name in ("production", "development") for level in ("DEBUG", "INFO", "WARNING", "ERROR")]


@pytest.mark.parametrize(
    ("environment", "level"), [LEVELS[0], *(pytest.param(*each, marks=pytest.mark.slow) for each in LEVELS[1:])]
)
def test_no_canary_is_in_the_log_in_metrics_or_in_a_problem(
    environment: str, level: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    port = free_port()
    with Issuer() as issuer:
        tokens = every_kind_of_token(issuer)
        settings: dict[str, Any] = {
            "ENVIRONMENT": environment, "LOG_LEVEL": level, "DATABASE_URL": postgres.url_of("postgres", PASSWORD),
            "AUTH_SUBJECT": "derived", "METRICS_BIND": f"127.0.0.1:{port}",
        }  # fmt: skip
        statuses: dict[int, int] = {}
        problems: list[str] = []
        with production(postgres.dsn, tmp_path, "--workers", "1", LEAKING, issuer=issuer, **settings) as web:

            def ask(method: str, path: str, token: str = tokens[0], **options: Any) -> httpx.Response:
                headers = {**HEADERS, "Authorization": f"Bearer {token}", **options.pop("headers", {})}
                answer = web.http.request(method, path, headers=headers, **options)
                note(answer.status_code, f"{answer.headers} {answer.text}")
                return answer

            def bare(text: str) -> None:
                with connect(web.port) as client:
                    client.sendall(text.encode())
                    answer = all_from(client).decode()
                note(int(answer.split()[1]), answer)

            def note(status: int, answer: str) -> None:
                statuses[status] = statuses.get(status, 0) + 1
                if status >= 400:
                    problems.append(answer)

            made = ask("POST", "/me/tasks", json=TASK).json()
            assert "id" in made
            task = f"/me/tasks/{made['id']}"
            ask("POST", "/me/tasks", json=TASK, headers={"Idempotency-Key": CANARIES["key"]})
            for token in tokens:
                ask("GET", "/me/tasks", token)
            _ask_what_is_refused(ask, bare, task)
            # Errors with the values in their texts, from PostgreSQL, from Python and from a library.
            ask("PATCH", task, json=TASK, headers={"Idempotency-Key": CANARIES["key"]})
            ask("PUT", task, json=TASK)
            ask("GET", "/me/tasks/summary")
            with psycopg.connect(as_owner(postgres.dsn).conninfo, autocommit=True) as admin:
                admin.execute(RAISE_THE_ROW)
            ask("POST", "/me/tasks", json=TASK)
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            issuer.fault = "500"
            ask("GET", "/me/tasks", issuer.token(CANARIES["subject"], key=issuer.rotate()))
            postgres.stop()
            ask("GET", task)
            assert web.stop() == 0

    assert {200, 201, 400, 401, 403, 404, 405, 412, 413, 414, 415, 431, 500, 503} <= statuses.keys(), statuses
    assert 'http_response_status_code="500"' in metrics
    expected = ["KeyError", "ValidationError", "UnicodeEncodeError", "SQLSTATE XX000", "the application fails"]
    assert [words for words in expected if words not in web.log] == []
    parts = {part for token in tokens for part in token.split(".")[1:]}
    secrets = {*CANARIES.values(), *parts}
    assert leaks(web.log, secrets) == []
    assert leaks(metrics, secrets) == []
    assert leaks("\n".join(problems), secrets - {CANARIES[name] for name in REPEATED}) == []
    if environment == "production":
        assert all(json.loads(line)["time"] for line in web.log.splitlines())


def _ask_what_is_refused(ask: Any, bare: Any, task: str) -> None:
    for body in bodies():
        ask("POST", "/me/tasks", content=body, headers={"Content-Type": "application/json"})
    for query in queries():
        ask("GET", f"/me/tasks?{query}")
    ask("POST", "/me/tasks", content=CANARIES["body"] * 7000, headers={"Content-Type": "application/json"})
    ask("POST", "/me/tasks", content=CANARIES["body"], headers={"Content-Type": f"text/{CANARIES['kind']}"})
    ask("POST", "/me/tasks", json=TASK, headers={"Idempotency-Key": f"{CANARIES['key']}, two"})
    canary = {
        "op": CANARIES["body"],
        "id": CANARIES["body"],
        "key": f"{CANARIES['key']}, two",
        "title": [CANARIES["title"]],
    }
    ask("POST", "/me/tasks/batch", json={"items": [canary, canary | {"op": "patch"}, TASK | {"op": "create"}]})
    ask("POST", "/me/import", content=CANARIES["body"], headers={"Content-Type": "application/json"})
    ask("GET", f"/me/tasks/changes?cursor={CANARIES['query']}")
    ask("POST", f"{task.replace('tasks', 'trash')}/restore", headers={"Idempotency-Key": CANARIES["key"]})
    ask("GET", task, headers={"If-None-Match": CANARIES["match"]})
    ask("DELETE", task, headers={"If-Match": CANARIES["match"]})
    ask("DELETE", task, headers={"If-Match": '"1"'})
    ask("GET", f"/me/tasks/{CANARIES['path']}")
    ask("GET", f"/{CANARIES['path']}/tasks")
    ask("GET", f"/{uuid4()}/tasks")
    ask("GET", f"/me/tasks/{UUID(int=0)}")
    ask("GET", f"/{CANARIES['path']}")
    ask("DELETE", "/v1/live")
    bare(f"GET /{CANARIES['line']} HTTP/1.1\r\nHost: test\r\n{CANARIES['header']}\r\n\r\n")
    bare(f"{CANARIES['line']} / HTTP/1.1\r\nHost: test\r\n\r\n")
    bare(f"GET /{CANARIES['line'] * 1000} HTTP/1.1\r\nHost: test\r\n\r\n")
    bare(f"GET / HTTP/1.1\r\nHost: test\r\nX-Secret: {CANARIES['header'] * 1000}\r\n\r\n")
    secret = f"X-Secret: {CANARIES['header']}"
    bare(f"GET /fails?{CANARIES['line']} HTTP/1.1\r\nHost: test\r\n{secret}\r\nConnection: close\r\n\r\n")
