"""`todo-manage` has the environment that systemd gives the service."""

import subprocess
from pathlib import Path

from tests.deploy.files import DEPLOY, replaced

ENVIRONMENT = r"""# A comment, and an empty line.

AUTH_JWKS_URL=https://auth.example.com/jwks?tenant=1&format=json
CORS_ORIGINS=https://a.example.com, https://b.example.com
AUTH_ISSUER="https://auth.example.com"
GUNICORN_CMD_ARGS='--log-file /var/log/todo/todo.log'
LOG_USER_KEY=$(touch harm)`touch harm`\$HOME=;touch harm="""


def test_values_are_taken_as_they_stand_and_nothing_in_them_is_a_command(tmp_path: Path) -> None:
    (tmp_path / "todo.env").write_text(ENVIRONMENT)
    places = {"/etc/todo/todo.env": tmp_path / "todo.env", "/opt/todo": tmp_path, ".venv/bin/python manage.py": "env"}

    shown = subprocess.run(
        ["sh", "-c", replaced(DEPLOY / "bin" / "todo-manage", places)], capture_output=True, text=True, check=True
    )

    assert {
        "AUTH_JWKS_URL=https://auth.example.com/jwks?tenant=1&format=json",
        "CORS_ORIGINS=https://a.example.com, https://b.example.com",
        "AUTH_ISSUER=https://auth.example.com",
        "GUNICORN_CMD_ARGS=--log-file /var/log/todo/todo.log",
        r"LOG_USER_KEY=$(touch harm)`touch harm`\$HOME=;touch harm=",
        "DATABASE_URL_DIRECT_FILE=/etc/todo/secrets/database-url-direct",
    } <= set(shown.stdout.splitlines())
    assert not (tmp_path / "harm").exists()
