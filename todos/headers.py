"""The headers of requests for tasks, with their descriptions in the contract."""

from typing import Annotated

from ninja import Header

from persistence.tasks import KEYS_KEPT
from todos.etags import IfMatch, IfNoneMatch
from todos.types import IDEMPOTENCY_KEY_MAX_LENGTH, IdempotencyKey

_FORM_OF_KEY = (
    f"such as a UUID: 1 to {IDEMPOTENCY_KEY_MAX_LENGTH} visible ASCII characters, without space and comma. Send the "
    "same one when you send the same request again"
)

IfMatchHeader = Annotated[
    IfMatch | None,
    Header(
        None,
        alias="If-Match",
        description="The entity tag of the task as you know it, as it came in `ETag`, or several with commas between. "
        "If the task has another version now, nothing is done, and the answer is 412. `*` is any version. Without this "
        "header the last write wins.",
    ),
]
IfNoneMatchHeader = Annotated[
    IfNoneMatch | None,
    Header(
        None,
        alias="If-None-Match",
        description="The entity tag of the task as you know it. If it is still current, the answer is 304 without a "
        "body.",
    ),
]
IdempotencyKeyHeader = Annotated[
    IdempotencyKey | None,
    Header(
        None,
        alias="Idempotency-Key",
        description=f"Any text of your own that is new for each new task, {_FORM_OF_KEY}: the task is created once, "
        "and as long as it is there, the answer to every repeat is 200 with the task as it is then, whatever the body. "
        "Cannot be combined with `id` in the body.",
    ),
]
ChangeKeyHeader = Annotated[
    IdempotencyKey | None,
    Header(
        None,
        alias="Idempotency-Key",
        description=f"Any text of your own that is new for each change, {_FORM_OF_KEY}: the change is made once, and "
        "the answer to every repeat is 200 with the task as it is then, whatever If-Match says. A task remembers the "
        f"last {KEYS_KEPT} keys of its changes.",
    ),
]
