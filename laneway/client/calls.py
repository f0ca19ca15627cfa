"""The calls of the API, as data: what to send, and how to read the answer. Both clients send them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, Required, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlencode
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError

from laneway.client.errors import UnexpectedResponse
from laneway.schemas.choices import DurabilityName, IfBusy, PriorityName
from laneway.schemas.task import CancelResponse, TaskDetails, TaskHandle

if TYPE_CHECKING:
    from laneway.schemas.history import BatchResponse, TaskRequest, Uniqueness
    from laneway.schemas.key_rule import Debounce, Throttle
    from laneway.schemas.task_signal import TaskSignalResponse

T = TypeVar("T")
Payload = Mapping[str, Any] | BaseModel
Seconds = float | timedelta


LONGEST_WAIT = 30.0
"""Seconds that one request waits for the end of a task."""


class ThrottleFields(TypedDict, total=False):
    """A throttle: the period, and the key instead of the ordering key."""

    seconds: Required[float]
    key: str


class DebounceFields(ThrottleFields, total=False):
    """A debounce: the wait after the last submission, and the longest one after the first."""

    max_seconds: float


class Options(TypedDict, total=False):
    """The options of a submission."""

    id: str | None
    """The id of the task. The same id with the same payload is the same task."""
    idempotency_key: str | None
    """Instead of `id`. Without both the client makes a random key, which all repeats of the request have."""
    key: str | None
    """The ordering key: tasks with the same key run one at a time, in the order of their submission."""
    priority: PriorityName | Literal["low", "normal", "high", "critical"] | int | None
    delay: Seconds
    """How long the task waits before it may start."""
    expires: Seconds | None
    """How long the task may wait. After that it is not started any more."""
    unique: Uniqueness | None
    """Accept only one task with this key at a time."""
    debounce: Debounce | DebounceFields | None
    """One task for all submissions of a key that come shortly after each other; the last one gives its payload."""
    throttle: Throttle | ThrottleFields | None
    """At most one task of a key starts in a period; a further submission returns that task."""
    if_busy: IfBusy | Literal["wait", "drop", "replace", "cancel_running", "newest"] | None
    """What happens while another task of this name and ordering key waits or runs."""
    tags: Sequence[str]
    """At most 20; tasks can be found by them."""
    durability: DurabilityName | Literal["memory", "disk", "replica"]
    """Where the message must be stored before the task counts as accepted."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and the model of its answer."""

    method: str
    path: str
    answer: TypeAdapter[T]
    body: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    waiting: float = 0
    """Seconds that the platform itself may take on purpose."""
    is_long: bool = False
    """Whether it may take minutes. The platform then sends spaces before its answer."""
    repeatable: bool = True
    """Whether a repeat does no harm when only the answer was lost."""

    def read(self, body: Any) -> T:
        """Return the answer. Raises UnexpectedResponse."""
        try:
            return self.answer.validate_python(body)
        except ValidationError as error:
            raise UnexpectedResponse(
                f"{self.method} {self.path}: the answer is not of Laneway's API, or of another version: "
                f"{error.error_count()} fields differ. Check the URL and the versions"
            ) from error


HANDLE, DETAILS = TypeAdapter(TaskHandle), TypeAdapter(TaskDetails)
CANCELLED = TypeAdapter(CancelResponse)


def task_request(name: str, payload: Payload | None = None, **options: Unpack[Options]) -> TaskRequest:
    """Return a task to submit. Raises pydantic's ValidationError, a ValueError.

    Without `id` and `idempotency_key` it gets a random key, so that a repeated request cannot make a second task.
    """
    from laneway.schemas.history import TaskRequest

    given: dict[str, Any] = {**options}
    if given.get("id") is None and given.get("idempotency_key") is None:
        given["idempotency_key"] = uuid4().hex
    for option in ("delay", "expires"):
        if given.get(option) is not None:
            given[option] = seconds(given[option])
    arguments = payload.model_dump(mode="json") if isinstance(payload, BaseModel) else dict(payload or {})
    return TaskRequest.model_validate({"name": name, "payload": arguments, **given})


def submit(request: TaskRequest) -> Call[TaskHandle]:
    """`POST /tasks`."""
    return Call("POST", "/tasks", HANDLE, _json(request))


def submit_many(requests: Sequence[TaskRequest]) -> Call[BatchResponse]:
    """`POST /tasks/batch`."""
    from laneway.schemas.history import BatchResponse, TaskBatch

    return Call("POST", "/tasks/batch", TypeAdapter(BatchResponse), _json(TaskBatch(tasks=list(requests))))


def get(id: str, *, wait: float = 0) -> Call[TaskDetails]:
    """`GET /tasks/{id}`, which answers when the task is over or `wait` seconds have passed."""
    return Call("GET", _path(id), DETAILS, params={"wait": wait} if wait else {}, waiting=wait)


def cancel(id: str) -> Call[CancelResponse]:
    """`POST /tasks/{id}/cancel`."""
    return Call("POST", _path(id, "/cancel"), CANCELLED)


def retry(id: str) -> Call[TaskHandle]:
    """`POST /tasks/{id}/retry`. A repeat could run the task a second time."""
    return Call("POST", _path(id, "/retry"), HANDLE, repeatable=False)


def signal(id: str, name: str, *, data: dict[str, Any], key: str | None) -> Call[TaskSignalResponse]:
    """`POST /tasks/{id}/signals/{name}`. A repeat changes nothing."""
    from laneway.schemas.task_signal import TaskSignalResponse

    body: dict[str, Any] = {"data": data} if key is None else {"data": data, "id": key}
    return Call("POST", _path(id, f"/signals/{quote(name, safe='')}"), TypeAdapter(TaskSignalResponse), body)


def seconds(value: Seconds) -> float:
    """A time span in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def events_path(id: str, *, follow: bool = True) -> str:
    """The path of a task's event stream; without `follow` it ends after the events that exist now."""
    return _path(id, "/events" if follow else "/events?follow=false")


class Selection(TypedDict, total=False):
    """Which events of a feed: a field that is not given selects all."""

    queue: str | None
    name: str | None
    tag: str | None
    workflow: str | None
    """The id of a workflow run."""
    batch: str | None
    """The id of a batch."""
    kinds: Sequence[str]
    """Kinds of events. Without them the feed has all but `output`."""


def feed_path(selection: Selection, *, last: int, follow: bool) -> str:
    """The path of a feed."""
    given: dict[str, Any] = {**selection}
    given |= {"kind": list(given.pop("kinds", ())), "last": last or None, "follow": None if follow else "false"}
    query = urlencode({name: value for name, value in given.items() if value is not None}, doseq=True)
    return f"/events?{query}" if query else "/events"


def _path(id: str, rest: str = "") -> str:
    if not id:
        raise ValueError("the id of a task is not empty")
    return f"/tasks/{quote(id, safe='')}{rest}"


def _json(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
