"""Submits many tasks once more, as new tasks with the same payloads, a page at a time.

A replay is a submission like any other: the payload is checked by the model that the task has now, defaults are added,
and the newest code runs it. The replayed task keeps its state, its result and its history. Its event `replayed` has the
id of the copy. The copy's id is made of the action's and the task's, so a repeated call makes no second copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from laneway.platform import clock
from laneway.platform.access.bounds import tenant_part
from laneway.platform.audit_log.recording import record_many
from laneway.platform.bulk import in_pages
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import bulk_actions, task_events
from laneway.platform.errors import PlatformError, WrongState
from laneway.platform.logging import logger
from laneway.platform.queues import Priority
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry
from laneway.platform.sealing import opened_payload
from laneway.platform.submission.acceptance import SubmitOptions, spec_of, validated
from laneway.platform.submission.ordering_keys import key_of, ordering_key
from laneway.platform.submission.outbox import Outbox
from laneway.platform.submission.transaction import Submission
from laneway.platform.task_control import check_kept, described

log = logger(__name__)

PAGE: Final = 200
COPIES: Final = UUID("c7a3f1de-5a64-4b7e-8a53-0c1d5e7f9b26")
"""Namespace of the ids of copies."""


class BulkReplay:
    """Submits tasks again as new tasks."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def replay(self, runs: Iterable[TaskRun], *, of: str) -> tuple[dict[str, str], dict[str, str]]:
        """Submit a copy of each. Returns id → id of its copy, and id → reason for those that cannot be replayed.

        `of`: the bulk action; its undo cancels the copies that have not started.
        """
        copies, refused = dict[str, str](), dict[str, str]()
        for page in in_pages(runs, PAGE):
            fit = [(run, found) for run in page if (found := _submission(run, of, refused)) is not None]
            try:
                copies |= self._submit(fit, of)
            except PlatformError as error:  # nothing of the page was stored
                refused.update({run.id: str(error) for run, _ in fit})
        return copies, refused

    def _submit(self, fit: Sequence[tuple[TaskRun, Submission]], of: str) -> dict[str, str]:
        if not fit:
            return {}
        with self._outbox.transaction(bounded=True) as transaction:
            handles = transaction.submit_many([submission for _, submission in fit])
            session, now = transaction.session, clock.now()
            new = [(run, handle) for (run, _), handle in zip(fit, handles, strict=True) if handle.created]
            events = [_event(run.id, handle.task_id, at=now) for run, handle in new]
            task_events.add_events(session, events)
            before = {handle.task_id: {"attempts": 0} for _, handle in new}
            bulk_actions.note(session, of, before, tasks=len(new))
            objects = [(("task", run.id), described(run) | {"copy": handle.task_id}) for run, handle in new]
            record_many(session, "task.replay", objects)
        log.info("tasks replayed", tasks=len(new))
        return {run.id: handle.task_id for (run, _), handle in zip(fit, handles, strict=True)}


def _submission(run: TaskRun, of: str, refused: dict[str, str]) -> Submission | None:
    """The submission of a task's copy; None, and the reason in `refused`, for one that cannot be replayed."""
    try:
        spec = spec_of(run.name)
        check_kept(run, "replayed")
        if registry.is_internal(spec.name):
            raise WrongState(run.id, "a task that only the platform submits", "replayed: retry it instead")
        if run.options.get("unique"):
            raise WrongState(run.id, "a task with a uniqueness key", "replayed: retry it instead")
        payload = validated(spec, opened_payload(run.payload))
    except PlatformError as error:
        refused[run.id] = str(error)
        return None
    tenant, own = tenant_part(run.id), key_of(spec, payload)
    key = run.key if run.key is not None else None if own is None else ordering_key(tenant + own)
    options = SubmitOptions(
        id=f"{tenant}{uuid5(COPIES, f'{of}:{run.id}')}",
        key=key,
        priority=Priority(run.priority),
        tags=tuple(run.tags),
        queue=run.queue if run.queue in declared else None,
        max_retries=run.options.get("max_retries"),
        time_limit=run.options.get("time_limit"),
    )
    return Submission(spec, payload, options)


def _event(task_id: str, copy: str, *, at: Any) -> dict[str, Any]:
    return {"task_id": task_id, "at": at, "kind": "replayed", "attempt": None, "data": {"as": copy}}
