"""The request class of a worker on the engine: it checks the lease before a task starts, and waits for no ETA."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, Final

from celery.exceptions import InvalidTaskError, Reject, TaskRevokedError
from celery.worker import request
from celery.worker.state import task_ready

from laneway._masking import masked_repr, without_secrets
from laneway.transport.channel import ReadMessage
from laneway.worker.hand_on import NotHandled, UnknownHere, hand_on
from laneway.worker.lease_check import drop_if_lost, is_cancelled, stop_if_lost
from laneway.worker.slots import cost_of

SHOWN: Final = frozenset({"result", "exception", "traceback"})
"""The fields of events that have what a task returned or raised, as text."""


class Request(request.Request):
    """Celery's request, but it does not start a task whose lease has expired, and does not wait for an ETA.

    The task itself sees its ETA (`self.request.eta`). The worker must not see it, because it would wait a second time,
    by its own clock.
    """

    chunk: dict[str, Any] | None = None
    """Id and size of the chunk with which it was given to the pool (`laneway.worker.chunks`)."""

    def __init__(self, message: Any, **options: Any) -> None:
        """Raises InvalidTaskError for a message that is no task call, so that the worker rejects the message.

        Celery's own request raises other errors, which would crash the worker.
        """
        try:
            super().__init__(message, **options)
            args, kwargs, embed = self._payload
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise InvalidTaskError(f"not a call of a task: {error}") from error
        if not (isinstance(args, list | tuple) and isinstance(kwargs, dict) and isinstance(embed, dict | None)):
            raise InvalidTaskError("not a call of a task")

    def send_event(self, type: str, **fields: Any) -> None:
        """Send an event. Whoever watches the worker, such as Flower, shows its fields: they have no secrets."""
        if self._eventer and self._eventer.enabled and self.task.send_events:
            shown = {name: _shown(value) if name in SHOWN else value for name, value in fields.items()}
            super().send_event(type, **shown)

    @property
    def argsrepr(self) -> Any:
        """The positional arguments as events and logs show them, without secrets."""
        return _shown(self._argsrepr)

    @property
    def kwargsrepr(self) -> Any:
        """The named arguments as events and logs show them, without secrets."""
        return _shown(self._kwargsrepr)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Describe the request for `inspect`, without secrets."""
        described = shown_request(super().info(safe))
        more = {"chunk": self.chunk, "cost": cost if (cost := cost_of(self.task)) > 1 else None}
        return described | {name: value for name, value in more.items() if value}

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Handle an error of the task. The dead letter of a task that raises Reject has the reason that it gave."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # a prefork process sends it with its traceback
        if isinstance(error, UnknownHere):
            task_ready(self)
            return self._hand_on(error)
        if isinstance(error, Reject) and not error.requeue and isinstance(self.message, ReadMessage):
            self.message.refusal = "rejected", str(error.reason or "")
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _hand_on(self, error: UnknownHere) -> None:
        """Hand the message on to a worker that knows it, or store the failure if none has taken it in time."""
        if self.acknowledged:
            return
        self.acknowledged = True
        if self._is_handed_on(error):
            self.send_event("task-rejected", requeue=True)
        else:
            self.task.backend.mark_as_failure(
                self.id, NotHandled(f"No worker knows {error.unknown.what}"), request=self._context
            )
            self.send_event("task-failed", exception=repr(error), traceback="")

    def _is_handed_on(self, error: UnknownHere) -> bool:
        return hand_on(self.message, error.unknown, app=self.app, worker=str(self.hostname))

    @property
    def eta(self) -> datetime | None:
        """None for a message of the engine, because the engine delivers it when it is due."""
        return None if isinstance(self.message, ReadMessage) else super().eta

    def revoked(self) -> bool:
        """True if the task must not run. Celery calls this when the message arrives and when the pool takes it."""
        return drop_if_lost(self) or self._is_revoked()

    def _is_revoked(self) -> bool:
        """True, and announced, if its id was revoked, it has expired, or its message was cancelled.

        A cancellation is a property of the message. Celery's list of revoked ids would also stop a later message that
        has the same task id: a task that is retried, or submitted anew.
        """
        if not self._already_revoked and is_cancelled(self):
            self._announce_revoked("revoked", False, None, False)
        return self._already_revoked or bool(super().revoked())

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Called when the pool has taken the request. Raises TaskRevokedError if it must not run.

        This stops only a pool that runs in this process. A pool of other processes has already started the task.
        """
        stop_if_lost(self, pid)
        if pid == os.getpid() and self._is_revoked():
            raise TaskRevokedError(self.id)
        super().on_accepted(pid, time_accepted)


def shown_request(described: dict[str, Any]) -> dict[str, Any]:
    """What Celery's `inspect` says about a request, without the secrets in its arguments."""
    return {
        name: without_secrets(value, of_text=masked_repr) if name in ("args", "kwargs") else value
        for name, value in described.items()
    }


def _shown(value: Any) -> Any:
    return masked_repr(value) if isinstance(value, str) else value
