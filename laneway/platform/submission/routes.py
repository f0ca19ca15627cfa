"""Celery's router of the platform: a task that is sent by its name goes where its declaration says.

`send_task`, `delay`, `celery call` and canvas do not use the task manager. With this router as `task_routes`, their
messages get the queue, the priority and, on the delivery engine, the ordering key of the task's declaration. A queue,
priority or key that the sender gives wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from laneway.platform import tracing
from laneway.platform.errors import InvalidPayload
from laneway.platform.history.adoption import payload_of_call
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.sealing import opened_call
from laneway.platform.submission.acceptance import validated
from laneway.platform.submission.ordering_keys import key_of
from laneway.transport.codec import HEADER_KEY


class TaskRoutes:
    """The routes of all registered tasks, for the setting `task_routes`."""

    def __init__(self, load: Callable[[], object], *, zero_goes_first: bool, has_keys: bool) -> None:
        """`load` registers all tasks; it is called before a task counts as unknown. `zero_goes_first`: the transport
        delivers priority 0 before 9. `has_keys`: the transport keeps the order of a key."""
        self._load: Callable[[], object] | None = load
        self._zero_goes_first, self._has_keys = zero_goes_first, has_keys

    def __call__(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], options: dict[str, Any], **_: Any
    ) -> dict[str, Any] | None:
        """The options of one call, as Celery asks for them. None for a task that is not registered."""
        spec = self._find(name)
        if spec is None:
            return None
        key = sent_key(spec, args, kwargs) if self._has_keys else None
        trace = {} if (spans := tracing.active) is None else spans.current()
        if key is not None or trace:
            # The headers that a sender gives replace those of a route, so these are put among them.
            own = trace if key is None else {HEADER_KEY: key, **trace}
            options["headers"] = {**own, **(options.get("headers") or {})}
        return {"queue": spec.queue, "priority": self._priority(spec)}

    def __repr__(self) -> str:
        return f"<routes of {len(registry)} registered tasks>"

    def _find(self, name: str) -> TaskSpec | None:
        if name not in registry and self._load is not None:
            load, self._load = self._load, None
            load()
        return registry.get(name)

    def _priority(self, spec: TaskSpec) -> int:
        return 9 - 3 * spec.priority if self._zero_goes_first else 3 * spec.priority


def registered_routes() -> dict[str, dict[str, str]]:
    """Task, also by its aliases → its queue, for `task_routes` of a Celery app that does not have the tasks."""
    names = sorted(alias for name in registry for alias in registry.names_of(name))
    return {name: {"queue": registry[name].queue} for name in names}


def sent_key(spec: TaskSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The ordering key of a call. None without one, and for arguments that do not fit: the task then fails.

    Raises SealedUnreadable for a call that this process cannot decrypt.
    """
    if spec.key is None:
        return None
    try:
        payload = payload_of_call(spec.name, *opened_call(args or (), dict(kwargs or {})))
        return key_of(spec, validated(spec, payload))
    except InvalidPayload:
        return None
