"""Answers beyond what `tests/support/contract.py` checks of each one: times, encoding, and what never leaks."""

from datetime import datetime
from uuid import UUID

from sqlmodel import SQLModel

from tests.support.helpers import Client, make_task
from todos import schemas


async def test_every_time_is_in_utc_and_says_so(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, completed=True, due_date="2999-01-01T00:00:00+05:30")

    assert task["due_date"] == "2998-12-31T18:30:00Z"
    for name in ("due_date", "created_at", "updated_at", "completed_at"):
        assert task[name].endswith("Z")
        assert datetime.fromisoformat(task[name]).tzname() == "UTC"


async def test_text_is_answered_as_it_is_and_not_escaped(client: Client, alice: UUID) -> None:
    response = await client.post(f"{alice}/tasks", json={"title": "Buy \U0001f95b"})

    assert "Buy \U0001f95b".encode() in response.content


def test_no_answer_shares_a_base_with_a_table() -> None:
    answers = [kind for kind in vars(schemas).values() if isinstance(kind, type)]

    assert len(answers) > 10
    assert not any(issubclass(kind, SQLModel) for kind in answers)
