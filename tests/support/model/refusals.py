"""What the model refuses: faults of a request, all of them at once, and conditions that an operation does not know."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import Concatenate

from tests.support.contract import OPERATIONS
from tests.support.model.answers import Answer, Refused
from tests.support.model.values import entity_tags, faults, fitting, or_null, uuid

type Headers = Mapping[str, str]
"""Idempotency-Key, If-Match and If-None-Match, so far as a request has them."""

_KEY = OPERATIONS["create_task"].parameters["Idempotency-Key"]["schema"]
idempotency_key = partial(or_null, partial(fitting, _KEY))


def answering[M, **P](operation: Callable[Concatenate[M, P], Answer]) -> Callable[Concatenate[M, P], Answer]:
    """Makes an operation of a model answer with what refused it."""

    @wraps(operation)
    def answer(model: M, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return operation(model, *args, **kwargs)
        except Refused as refused:
            return refused.answer

    return answer


def refuse_faults(*found: Iterable[str]) -> None:
    if everything := set[str]().union(*found):
        raise Refused(400, "invalid-input", *everything)


def refuse_conditions_but(name: str | None, headers: Headers) -> None:
    """A condition that an operation does not know is never ignored."""
    refuse_faults({"If-Match", "If-None-Match"} & set(headers) - {name})


def condition(
    name: str, headers: Headers, user: str, task_id: str, body_faults: Iterable[str] = (), *, is_write: bool = False
) -> list[str] | None:
    """The entity tags of the one condition that an operation on a task knows; a write knows a key, too."""
    refuse_conditions_but(name, headers)
    refuse_faults(
        faults("user_id", uuid, user),
        faults("task_id", uuid, task_id),
        faults(name, partial(or_null, entity_tags), headers.get(name)),
        faults("Idempotency-Key", idempotency_key, headers.get("Idempotency-Key")) if is_write else (),
        body_faults,
    )
    return None if name not in headers else entity_tags(headers[name])
