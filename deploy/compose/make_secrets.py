"""Makes the secrets of compose.yaml in a volume that its services read. Those that are there stay as they are."""

from pathlib import Path
from secrets import token_hex

FOLDER = Path("/run/secrets")


def secret(name: str) -> str:
    file = FOLDER / name
    if not file.exists():
        file.write_text(token_hex(32))
    return file.read_text()


secret("log_user_key")
owner, server, auth = (secret(f"{role}_password") for role in ("todo_owner", "todo_server", "auth"))
texts = {
    "database_url": f"postgresql://todo_server:{server}@db/todo",
    "database_url_direct": f"postgresql://todo_owner:{owner}@db/todo",
    "database_url_pooled": f"postgresql://todo_server:{server}@pgbouncer:6432/todo",
    "pgbouncer_users": f'"todo_server" "{server}"\n',
    "auth.env": f"PGPASSWORD={auth}\nBETTER_AUTH_SECRET={secret('better_auth_secret')}\n",
}
for name, text in texts.items():
    (FOLDER / name).write_text(text)
