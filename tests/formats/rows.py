"""Tasks as the database returns them, made by Hypothesis."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from persistence.models import DESCRIPTION_MAX_LENGTH, TAGS_MAX_COUNT, TITLE_MAX_LENGTH
from persistence.transfers import EXPORTED
from todos.schemas import TaskReplacement

MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - it gets one
PAST = datetime(2026, 1, 1, tzinfo=UTC)
# What the formats have a meaning for comes often.
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    [
        "x done",
        "(A) 2030-01-01 ",
        "+a @b",
        "due:1 id:2 pri:C",
        "%2B",
        "=1+1",
        "'",
        "a\r\nb\u2028c",
        'say "so"; a,b\\n',
        "é" * 60,
    ]
)
_TAGS = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=","), max_size=8), max_size=4
)


def _is_valid(values: dict[str, Any]) -> bool:
    try:
        TaskReplacement(**values)
    except ValueError:
        return False
    return True


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """What a client can have sent, and times that it cannot."""
    sent = draw(
        st.fixed_dictionaries(
            {
                "title": st.lists(_TEXT, min_size=1, max_size=4).map("".join).map(lambda text: text[:TITLE_MAX_LENGTH]),
                "description": st.none()
                | st.lists(_TEXT, max_size=5).map("".join).map(lambda text: text[:DESCRIPTION_MAX_LENGTH]),
                "status": st.sampled_from(["pending", "completed"]),
                "priority": st.sampled_from(["low", "medium", "high"]),
                "due_date": st.none() | MOMENTS.map(datetime.isoformat),
                "tags": _TAGS.map(lambda tags: tags[:TAGS_MAX_COUNT]),
            }
        ).filter(_is_valid)
    )
    values = TaskReplacement(**sent).values()
    completed = values["status"] == "completed"
    row = values | {
        "id": UUID(int=draw(st.integers(0, 2**128 - 1))),
        "user_id": UUID(int=1),
        "completed": completed,
        "created_at": draw(MOMENTS),
        "updated_at": draw(MOMENTS),
        "completed_at": draw(MOMENTS) if completed else None,
        "version": draw(st.integers(1, 2**62)),
        "deleted_at": draw(st.none() | MOMENTS.filter(lambda moment: moment < PAST)),
    }
    return {str(column.key): row[str(column.key)] for column in EXPORTED}
