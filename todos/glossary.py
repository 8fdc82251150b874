"""What parameters, headers, schemas and their members mean, in words for strangers: they stand in the contract."""

from collections.abc import Mapping
from typing import Any

USER_ID = "055fcdb6-2179-4226-9200-60ebedb11f2c"
TASK_ID = "ac3bdb50-75e6-4bc7-9c88-92b4dcf8593a"
IF_MATCH = (
    "The entity tag of the task as you know it, as it came in `ETag`, or several with commas between. If the task has "
    "another version now, nothing is done, and the answer is 412. `*` is any version. Without this header the last "
    "write wins."
)
IF_NONE_MATCH = "The entity tag of the task as you know it. If it is still current, the answer is 304 without a body."
IDEMPOTENCY_KEY = (
    "Any text of your own that is new for each new task, such as a UUID: 1 to 255 visible ASCII characters, without "
    "space and comma. Send the same one when you send the same request again: the task is created once, and as long as "
    "it is there, the answer to every repeat is 200 with the task as it is then, whatever the body. Cannot be combined "
    "with `id` in the body."
)

PATH_PARAMETERS = {
    "user_id": ("The user whose tasks these are.", USER_ID),
    "task_id": ("The task.", TASK_ID),
}

FIELDS = {
    "id": "The task's id.",
    "user_id": "The owner.",
    "title": "What is to be done: 1 to 200 characters, not counting space around it, which is dropped.",
    "description": "More about it, at most 1000 characters, or null.",
    "status": "Whether it is done. `pending` when left out of a new or replaced task.",
    "completed": "Another way to say `status`; both may be sent if they agree.",
    "priority": "How urgent it is. `medium` when left out of a new or replaced task.",
    "due_date": "When it is due: a date and time with its offset from UTC and at most 6 decimals of a second, or null. "
    "Answers are in UTC. That of a new task must not be in the past.",
    "tags": "At most 20. Each is trimmed and lower-cased, then has 1 to 10 characters; repeated ones are dropped, the "
    "order stays.",
    "created_at": "When it was created.",
    "updated_at": "When it was last changed.",
    "completed_at": "When it was completed; null while it is pending.",
    "version": "Grows with every change. In double quotes it is the entity tag of the task, for If-Match.",
}
"""What the members of a task mean, wherever they stand."""

SENT_FIELDS = {"id": "An id of your own making, so that sending the task again does not create it twice."}
"""What else is to be said of members that a client sends."""

SCHEMAS = {
    "Task": "A task. Times are in UTC.",
    "TaskPage": "Tasks in the order asked for; `next_cursor` is the `cursor` of the next page, null on the last one.",
    "TaskSummary": "How many tasks a user has, in all and of each kind.",
    "NewTask": "A task to create. Only `title` is required; what is left out gets its default.",
    "TaskReplacement": "All values of a task. What is left out goes to its default, as in a new task.",
    "TaskChanges": "What to change of a task. What is left out stays; null clears `description` or `due_date`.",
    "Status": "Whether a task is done.",
    "Priority": "How urgent a task is.",
    "Sort": "An order of tasks; `-` reverses it.",
    "StatusCounts": "How many tasks have each status.",
    "PriorityCounts": "How many tasks have each priority.",
    "Problem": "What went wrong: a problem document (RFC 9457).",
    "FieldError": "What is wrong with one value.",
    "Health": "Whether the service can work.",
    "HealthData": "The state of the parts.",
    "Liveness": "That the process answers.",
}

HEADERS: Mapping[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The id of the request in the server's log: the one you sent, or one that was made up.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    },
    "ETag": {
        "description": "The entity tag of the task, for If-Match and If-None-Match: its version in double quotes.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Location": {
        "description": "The path of the task.",
        "required": True,
        "schema": {"type": "string", "pattern": "^/api/[0-9a-f-]{36}/tasks/[0-9a-f-]{36}$"},
    },
    "Idempotency-Replayed": {
        "description": "The task was there already, from an earlier request with the same key or id.",
        "required": True,
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Link": {
        "description": 'The next page, as `<path and query>; rel="next"` (RFC 8288); absent on the last page.',
        "schema": {"type": "string", "pattern": '^<[^<>]+>; rel="next"$'},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Accept": {
        "description": "The content types that may be sent.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Cache-Control": {
        "description": "You may keep the answer, and ask with If-None-Match whether it is still current.",
        "required": True,
        "schema": {"type": "string", "enum": ["private, no-cache"]},
    },
}
