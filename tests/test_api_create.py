"""POST /api/{user_id}/tasks"""

from uuid import UUID

import httpx


async def test_it_creates_a_task_with_defaults(client: httpx.AsyncClient, alice: UUID) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "  Buy milk "})

    assert response.status_code == 201
    task = response.json()
    assert task["title"] == "Buy milk"
    assert task["status"] == "pending"
    assert response.headers["Location"] == f"/api/{alice}/tasks/{task['id']}"
