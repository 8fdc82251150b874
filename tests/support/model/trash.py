"""The trash in the model."""

from dataclasses import dataclass
from urllib.parse import urlencode

from tests.support.model.answers import NO_STORE, Answer, Choice, Refused
from tests.support.model.lists import Query, page_of
from tests.support.model.refusals import Headers, answering, condition, refuse_conditions_but, refuse_faults
from tests.support.model.state import State, headers_of, restored
from tests.support.model.tasks import Task
from tests.support.model.values import faults, uuid


@dataclass(frozen=True)
class Trash:
    """The list that a cursor belongs to."""

    user: str


class TrashOperations(State):
    @answering
    def list_trash(self, user: str, query: Query, choice: Choice) -> Answer:
        """A page of what can be restored, the newest deletion first."""
        parameters = page_of(query)
        refuse_faults(faults("user_id", uuid, user))
        this_list = Trash(uuid(user))
        places = sorted(map(_place, self.trash_of(this_list.user)), reverse=True)
        if "cursor" in parameters:
            last = self.position(parameters["cursor"], this_list)
            places = [place for place in places if place < last]
        size = parameters["limit"]
        page, headers, cursor = places[:size], NO_STORE, None
        if len(places) > size:
            cursor = self.point_at(choice.cursor or "a cursor", this_list, page[-1])
            following = [(name, value) for name, value in query if name != "cursor"]
            link = f'</api/{user}/trash?{urlencode([*following, ("cursor", cursor)])}>; rel="next"'
            headers = NO_STORE | {"Link": link}
        items = [self.tasks[this_list.user, task_id].shown_as_trash() for _, task_id in page]
        return Answer(200, {"items": items, "next_cursor": cursor}, headers)

    @answering
    def restore_task(self, user: str, task_id: str, headers: Headers, choice: Choice) -> Answer:
        if_match = condition("If-Match", headers, user, task_id, is_write=True)
        key, sent = (uuid(user), uuid(task_id)), headers.get("Idempotency-Key")
        task, replayed = self.change("restore", key, restored, if_match, sent, choice)
        return Answer(200, task.shown(), headers_of(task, replayed=replayed))

    @answering
    def erase_task(self, user: str, task_id: str, headers: Headers, choice: Choice) -> Answer:
        refuse_conditions_but(None, headers)
        refuse_faults(faults("user_id", uuid, user), faults("task_id", uuid, task_id))
        task = self.tasks.get((uuid(user), uuid(task_id)))
        if task is None or not task.is_trashed:
            raise Refused(404, "task-not-found")
        self.erase([task], choice)
        return Answer(204)

    @answering
    def empty_trash(self, user: str, headers: Headers, choice: Choice) -> Answer:
        refuse_conditions_but(None, headers)
        refuse_faults(faults("user_id", uuid, user))
        self.erase(self.trash_of(uuid(user)), choice)
        return Answer(204)


def _place(task: Task) -> tuple[object, str]:
    return task.deleted_at, task.key[1]
