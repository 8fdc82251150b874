"""Plans a trip with the Todo API, through a client that was generated from the API's contract."""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from todo_client import AuthenticatedClient
from todo_client.api.tasks import (
    change_task,
    create_task,
    delete_task,
    get_task,
    get_task_summary,
    list_tasks,
    replace_task,
    write_batch,
)
from todo_client.models import (
    Batch,
    BatchDelete,
    BatchPatch,
    BatchRestore,
    BatchResult,
    BatchResults,
    NewTask,
    Problem,
    Task,
    TaskChanges,
    TaskPage,
    TaskReplacement,
    TaskSummary,
    TrashedTask,
)
from todo_client.types import UNSET, Unset

if len(sys.argv) != 3:
    sys.exit("usage: python session.py URL USER_ID")
# A server without sign-in ignores the token.
client = AuthenticatedClient(base_url=sys.argv[1], token=os.environ.get("TODO_TOKEN") or "none")
user = sys.argv[2]
trip = f"trip-{uuid4().hex[:5]}"  # Each session has a tag of its own.


def unwrap[T](kind: type[T], answer: object) -> T:
    """What the API answered; a problem ends the session."""
    if isinstance(answer, Problem):
        sys.exit(f"{answer.title}: {answer.detail}")
    assert isinstance(answer, kind)
    return answer


def add(task: NewTask) -> Task:
    return unwrap(Task, create_task.sync(user, client=client, body=task))


def pages(limit: int) -> Iterator[list[Task]]:
    """All tasks of the trip, a page at a time."""
    cursor: str | Unset | None = UNSET
    while cursor is not None:
        page = unwrap(TaskPage, list_tasks.sync(user, client=client, tag=[trip], limit=limit, cursor=cursor))
        yield page.items
        cursor = page.next_cursor


def change(task: Task, decide: Callable[[Task], TaskChanges]) -> Task:
    """Changes the task as we know it. When somebody else was faster, decides again on what they made of it."""
    etag = f'"{task.version}"'
    answer = change_task.sync_detailed(user, task.id, client=client, body=decide(task), if_match=etag)
    if answer.status_code != 412:
        return unwrap(Task, answer.parsed)
    print("  Somebody was faster; merging")
    return change(unwrap(Task, get_task.sync(user, task.id, client=client)), decide)


def together(*items: BatchPatch | BatchDelete | BatchRestore) -> list[BatchResult]:
    """Makes changes in one transaction. One that is refused leaves the others alone."""
    return unwrap(BatchResults, write_batch.sync(user, client=client, body=Batch([*items]))).results


print("Create a task, and again with the same key, as if the first answer was lost")
key = str(uuid4())
wish = NewTask(title="Book a flight", priority="high", tags=[trip])
first = create_task.sync_detailed(user, client=client, body=wish, idempotency_key=key)
again = create_task.sync_detailed(user, client=client, body=wish, idempotency_key=key)
flight = unwrap(Task, first.parsed)
assert first.status_code == 201
assert again.headers["Idempotency-Replayed"] == "true"
assert unwrap(Task, again.parsed).id == flight.id

print("Create some more")
hotel = add(NewTask("Reserve a hotel", priority="high", due_date=datetime.now(UTC) + timedelta(days=3), tags=[trip]))
for title in ("Buy sun cream", "Find the passport", "Learn some Portuguese"):
    add(NewTask(title, priority="low", tags=[trip]))

print("List what is urgent, the first due first")
urgent = list_tasks.sync(user, client=client, tag=[trip], priority=["high", "medium"], sort="due_date")
assert [task.title for task in unwrap(TaskPage, urgent).items] == ["Reserve a hotel", "Book a flight"]

print("Walk through all of it, two at a time")
assert [len(page) for page in pages(limit=2)] == [2, 2, 1]

print("Get a task, and again only if it has changed")
etag = get_task.sync_detailed(user, flight.id, client=client).headers["ETag"]
assert get_task.sync_detailed(user, flight.id, client=client, if_none_match=etag).status_code == 304

print("Change it on the phone, then on the laptop, which has not seen that")
change(flight, lambda task: TaskChanges(tags=[*task.tags, "phone"]))
flight = change(flight, lambda task: TaskChanges(tags=[*task.tags, "laptop"], status="completed"))
assert flight.tags == [trip, "phone", "laptop"]

print("Replace a task: what is left out goes to its default")
stay = TaskReplacement("Stay with Ana", tags=[trip])
hotel = unwrap(Task, replace_task.sync(user, hotel.id, client=client, body=stay))
assert hotel.title == "Stay with Ana"
assert hotel.due_date is None

print("Count what there is")
summary = unwrap(TaskSummary, get_task_summary.sync(user, client=client))
assert summary.tags[trip] == 5

print("Make a mistake, which the type checker finds, too")
mistake = NewTask("Pack", priority="urgent")  # type: ignore[arg-type]
problem = create_task.sync(user, client=client, body=mistake)
assert isinstance(problem, Problem)
assert problem.type_ == "urn:problem:todo:invalid-input"
for error in problem.errors or []:
    print(f"  {error.field}: {error.detail}")

print("Delete a task, and undo that together with another change")
trashed = unwrap(TrashedTask, delete_task.sync(user, hotel.id, client=client))
undo = BatchRestore(hotel.id, op="restore", if_version=trashed.version)
tick = BatchPatch(flight.id, op="patch", if_version=flight.version - 1, key=str(uuid4()), completed=True)
[restored, refused] = together(undo, tick)
assert (restored.status, refused.status) == (200, 412)
assert isinstance(refused.task, TrashedTask)
assert refused.task.version == flight.version

print("Delete all of it")
for page in pages(limit=100):
    assert {result.status for result in together(*(BatchDelete(task.id, op="delete") for task in page))} == {200}
gone = get_task.sync(user, flight.id, client=client)
assert isinstance(gone, Problem)
assert gone.type_ == "urn:problem:todo:task-not-found"
