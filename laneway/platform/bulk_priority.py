"""Gives many waiting tasks another priority, a page at a time: their messages at the broker, and their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from laneway.engine import LeaseStatus
from laneway.engine.waiting_messages import reprioritise
from laneway.platform import clock
from laneway.platform.audit_log.recording import record_many
from laneway.platform.broker import Broker
from laneway.platform.bulk import in_pages
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import bulk_actions, task_events, task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError, UnknownTask, WrongState
from laneway.platform.logging import logger
from laneway.platform.submission.outbox import CLAIM
from laneway.platform.task_control import described
from laneway.schemas.task import WAITING, TaskState

log = logger(__name__)

PAGE: Final = 200
VERB: Final = "given another priority"


class BulkPriority:
    """Changes the priority of tasks that wait."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def change(
        self, runs: Iterable[TaskRun], priorities: Mapping[str, int], *, action: str, of: str | None = None
    ) -> tuple[int, dict[str, str]]:
        """Give each task its new priority, by id. Returns how many, and id → reason for the others.

        The messages are changed first, while the rows are locked. If this process dies in between, a message has the
        new priority and its row has not: repeat the call. `action`: the name in the audit log. `of`: the bulk action
        under which an undo finds them. Raises Unsupported without the delivery engine.
        """
        self._broker.require_engine("another priority for tasks that wait")
        done, refused = 0, dict[str, str]()
        for page in in_pages(runs, PAGE):
            ids = [run.id for run in page]
            try:
                done += self._change_page(ids, priorities, refused, action=action, of=of)
            except PlatformError as error:
                refused.update({id: str(error) for id in ids if id not in refused})
        return done, refused

    def _change_page(
        self, ids: Sequence[str], priorities: Mapping[str, int], refused: dict[str, str], *, action: str, of: str | None
    ) -> int:
        with self._database.transaction() as session:
            found = {run.id: run for run in task_runs.by_ids(session, ids, lock=True)}
            refused.update({id: reason for id in ids if (reason := _refusal(id, found.get(id))) is not None})
            runs = [found[id] for id in ids if id not in refused]
            self._change_messages([run for run in runs if run.published_at is not None], priorities, refused)
            runs, now = [run for run in runs if run.id not in refused], clock.now()
            objects = [(("task", run.id), described(run) | {"priority": run.priority}) for run in runs]
            task_events.add_events(session, [_event(run, priorities[run.id], at=now) for run in runs])
            if of is not None:
                bulk_actions.note(session, of, {run.id: {"priority": run.priority} for run in runs}, tasks=len(runs))
            for run in runs:
                run.priority = priorities[run.id]
            session.flush()
            record_many(session, action, objects, after={"priority": sorted({run.priority for run in runs})})
        log.info("priorities changed", tasks=len(runs))
        return len(runs)

    def _change_messages(self, runs: Sequence[TaskRun], priorities: Mapping[str, int], refused: dict[str, str]) -> None:
        """Change the messages that wait at the broker. A task without one has just started, or is not sent yet."""
        groups = defaultdict[tuple[str, int], list[TaskRun]](list)
        for run in runs:
            groups[run.queue, priorities[run.id]].append(run)
        engine = self._broker.require_engine("another priority for tasks that wait")
        for (queue, priority), group in groups.items():
            with self._broker.guarded():
                sent_as = self._broker.message_priority(priority)
                codes = reprioritise(engine, queue, [run.id for run in group], priority=sent_as)
            for run, code in zip(group, codes, strict=True):
                if code is not LeaseStatus.DONE and run.state != TaskState.ACCEPTED:
                    refused[run.id] = f"Task {run.id!r} starts at this moment; it cannot be {VERB}."


def _refusal(id: str, run: TaskRun | None) -> str | None:
    if run is None:
        return str(UnknownTask(id))
    if run.state not in WAITING:
        return str(WrongState(id, run.state, VERB))
    if run.state == TaskState.ACCEPTED and run.published_at is not None and run.published_at > clock.now() - CLAIM:
        return f"Task {id!r} is sent to the broker at this moment: repeat the call."
    return None


def _event(run: TaskRun, priority: int, *, at: Any) -> dict[str, Any]:
    data = {"was": run.priority, "now": priority}
    return {"task_id": run.id, "at": at, "kind": "priority changed", "attempt": None, "data": data}
