"""The lower bound: one ASGI function, SQL by hand on an asyncpg pool, orjson, and no validation beyond parsing.

It shows the cost of Python, asyncpg and uvicorn by themselves; such code would be hard to maintain. asyncpg's pool
resets every connection that is checked in, which takes a round trip. POOL_RESET=no turns that off.
"""

import base64
import os
from datetime import datetime
from urllib.parse import parse_qsl
from uuid import uuid4

import asyncpg
import orjson

COLUMNS = """
id::text, user_id::text, title, description, status::text, status = 'completed' AS completed, priority::text, due_date,
tags, created_at, updated_at, completed_at, version
"""
GET = f"SELECT {COLUMNS} FROM tasks WHERE user_id = $1 AND id = $2"
CREATE = f"""
INSERT INTO tasks (id, user_id, title, description, status, priority, due_date, tags, completed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $5 = 'completed'::task_status THEN now() END)
RETURNING {COLUMNS}
"""
DELETE = f"DELETE FROM tasks WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}"
ENUMS = {"status": "::task_status", "priority": "::task_priority"}

pool: asyncpg.Pool


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    parts = scope["path"].split("/")
    user_id, task_id = parts[2], parts[4] if len(parts) > 4 else None
    method, status = scope["method"], 200
    body = None
    if method in ("POST", "PATCH"):
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        body = orjson.loads(body)
    if task_id is None:
        if method == "GET":
            answer = await list_tasks(user_id, dict(parse_qsl(scope["query_string"].decode())))
        else:
            answer, status = await create_task(user_id, body), 201
    elif method == "GET":
        answer = await pool.fetchrow(GET, user_id, task_id)
    elif method == "PATCH":
        answer = await update_task(user_id, task_id, body)
    else:
        answer = await pool.fetchrow(DELETE, user_id, task_id)
    if answer is None:
        status, answer = 404, {"detail": "Not found"}
    content = orjson.dumps(answer if isinstance(answer, dict) else dict(answer))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def list_tasks(user_id, query):
    limit = int(query.get("limit", 100))
    conditions, values = ["user_id = $1"], [user_id, limit + 1]
    if "status" in query:
        values.append(query["status"])
        conditions.append(f"status = ${len(values)}::task_status")
    if "tag" in query:
        values.append([query["tag"]])
        conditions.append(f"tags @> ${len(values)}")
    if "cursor" in query:
        created_at, task_id = base64.urlsafe_b64decode(query["cursor"]).decode().split(" ")
        values += datetime.fromisoformat(created_at), task_id
        conditions.append(f"(created_at, id) < (${len(values) - 1}, ${len(values)})")
    rows = await pool.fetch(
        f"SELECT {COLUMNS} FROM tasks WHERE {' AND '.join(conditions)}"
        " ORDER BY tasks.created_at DESC, tasks.id DESC LIMIT $2",
        *values,
    )
    next_cursor = None
    if len(rows) > limit:
        last = rows[limit - 1]
        next_cursor = base64.urlsafe_b64encode(f"{last['created_at'].isoformat()} {last['id']}".encode()).decode()
    return {"items": [dict(row) for row in rows[:limit]], "next_cursor": next_cursor}


async def create_task(user_id, body):
    due_date = body.get("due_date")
    return await pool.fetchrow(
        CREATE,
        uuid4(),
        user_id,
        body["title"],
        body.get("description"),
        body.get("status", "pending"),
        body.get("priority", "medium"),
        due_date and datetime.fromisoformat(due_date),
        body.get("tags", []),
    )


async def update_task(user_id, task_id, body):
    changes, values = ["updated_at = now()", "version = version + 1"], [user_id, task_id]
    for name, value in body.items():
        values.append(datetime.fromisoformat(value) if name == "due_date" and value else value)
        changes.append(f"{name} = ${len(values)}{ENUMS.get(name, '')}")
        if name == "status":
            changes.append("completed_at = " + ("coalesce(completed_at, now())" if value == "completed" else "NULL"))
    return await pool.fetchrow(
        f"UPDATE tasks SET {', '.join(changes)} WHERE user_id = $1 AND id = $2 RETURNING {COLUMNS}", *values
    )


async def leave_alone(connection):
    pass


async def lifespan(receive, send):
    global pool
    await receive()
    options = {"reset": leave_alone} if os.environ.get("POOL_RESET") == "no" else {}
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=15, **options) as pool:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
