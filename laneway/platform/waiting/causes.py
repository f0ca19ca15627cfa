"""What a task waits for: every cause that holds, the one that usually lasts longest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from laneway.engine import LimitUse, QueueStats
from laneway.engine.admin_replies import MessageInfo
from laneway.engine.replies import MessageState
from laneway.platform.db.models import TaskRun, TaskWait
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.flow.rate_limits import in_flight_reason, paused_reason, rate_reason
from laneway.platform.waiting.limit_causes import NOTHING, LimitFacts, limit_causes, limit_text
from laneway.schemas.task import TaskState
from laneway.schemas.waiting import Cause, CauseKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The task at the head of an ordering key, for which others of the key wait."""

    message: MessageInfo | None
    run: TaskRun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Who paused a queue, and when."""

    by: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a waiting task.

    `message` and `stats` are None without the engine. `message` is also None if the broker lost it: then `is_lost`.
    `serving`: live workers of its queue. `holder` and `pause` are None, and `limits` is empty, where nobody asked for
    them.
    """

    run: TaskRun
    now: datetime
    serving: int
    message: MessageInfo | None = None
    is_lost: bool = False
    stats: QueueStats | None = None
    holder: Holder | None = None
    pause: Pause | None = None
    limits: LimitFacts = NOTHING
    waits: Sequence[TaskWait] = ()
    """What the task itself asked to wait for."""


NO_BROKER = Cause(kind=CauseKind.BROKER, text="the broker, which cannot be reached")
"""The only known cause while the broker is away."""
IN_OUTBOX = Cause(kind=CauseKind.OUTBOX, text="being sent to the broker")
"""The cause of a task that the broker does not have yet."""


def causes(facts: Facts) -> list[Cause]:
    """Every cause, the one that usually lasts longest first. The last one is always the line before the workers."""
    return [*_causes(facts)]


def _causes(facts: Facts) -> Iterator[Cause]:
    run, stats, message, now = facts.run, facts.stats, facts.message, facts.now
    if stats is not None and (text := paused_reason(stats)):
        pause = facts.pause
        yield Cause(
            kind=CauseKind.PAUSED, text=text, by=pause.by if pause else None, since=pause.since if pause else None
        )
    if facts.is_lost:
        yield Cause(kind=CauseKind.LOST_MESSAGE, text="its message to be sent again: the broker does not have it")
    if message is not None:
        yield from _of_message(message, facts)
    is_due_later = run.state == TaskState.SCHEDULED and run.due_at is not None and run.due_at > now
    yield from (_of_wait(wait) for wait in facts.waits if is_due_later)
    if is_due_later and not facts.waits:
        yield Cause(kind=CauseKind.DUE_TIME, text="its due time", until=run.due_at)
    if not facts.serving:
        yield Cause(kind=CauseKind.NO_WORKER, text=f"a worker: none serves the queue {run.queue!r}")
    if stats is not None:
        yield from _of_limits(stats, now=now)
    yield _line(message)


def _of_message(message: MessageInfo, facts: Facts) -> Iterator[Cause]:
    """Why a message cannot be delivered yet, if the reason is in its queue."""
    if message.state is MessageState.SET_ASIDE:
        yield Cause(kind=CauseKind.NEWER_VERSION, text="a worker of a newer version of Laneway, which has sent it")
    elif message.state is MessageState.HELD:
        ahead = f" (task {message.behind})" if message.behind else ""
        yield Cause(
            kind=CauseKind.KEY,
            text=f"an earlier task of {message.stored.message.key}{ahead}",
            detail=_holder_detail(facts.holder, now=facts.now) if facts.holder else None,
            task_id=message.behind,
        )
    elif message.state is MessageState.LIMITED:
        yield from _at_limit(message, facts)
    elif message.handed_on:
        yield Cause(
            kind=CauseKind.KNOWING_WORKER,
            text=f"a worker that knows the task and its fields; handed on so far: {message.handed_on}",
        )


def _at_limit(message: MessageInfo, facts: Facts) -> Iterator[Cause]:
    waits_for = message.waits_for
    if not isinstance(waits_for, LimitUse):
        yield Cause(kind=CauseKind.LABELS, text=f"a worker with the labels {', '.join(waits_for or ())}")
    elif facts.limits.waits:
        yield from limit_causes(facts.limits, own_name=facts.run.name, now=facts.now)
    else:
        yield Cause(kind=CauseKind.LIMIT, text=limit_text(waits_for.name, waits_for.key), limit=waits_for.name)


def _of_wait(wait: TaskWait) -> Cause:
    """What a task asked to wait for."""
    text = {
        WaitKind.TIME: "the end of its sleep",
        WaitKind.SIGNAL: f"the signal {wait.target.removeprefix(f'{wait.task_id} ')!r}",
        WaitKind.TASK: f"the task {wait.target}",
        WaitKind.WORKFLOW: f"the workflow {wait.target}",
        WaitKind.RESUME: f"its workflow {wait.target} to be resumed",
    }[WaitKind(wait.kind)]
    task_id = wait.target if wait.kind == WaitKind.TASK else None
    kind = CauseKind.DUE_TIME if wait.kind == WaitKind.TIME else CauseKind.AWAITED
    return Cause(kind=kind, text=text, since=wait.created_at, until=wait.until, task_id=task_id)


def _of_limits(stats: QueueStats, *, now: datetime) -> Iterator[Cause]:
    if text := in_flight_reason(stats):
        yield Cause(kind=CauseKind.IN_FLIGHT, text=text)
    if found := rate_reason(stats, now=now):
        text, opens = found
        yield Cause(kind=CauseKind.RATE, text=text, until=opens)


def _line(message: MessageInfo | None) -> Cause:
    ahead = message.position if message is not None else None
    detail = None if not ahead else f"{ahead} {'task goes' if ahead == 1 else 'tasks go'} before it in its queue"
    return Cause(kind=CauseKind.LINE, text="a free worker", detail=detail)


def _holder_detail(holder: Holder, *, now: datetime) -> str | None:
    """What the task at the head of the key does."""
    message, run = holder.message, holder.run
    if message is None:
        return None
    if message.state is MessageState.LEASED:
        left = max(0.0, (message.at or 0) / 1000 - now.timestamp())
        runs = run is not None and run.state == TaskState.PROCESSING and run.started_at is not None
        what = f"It has run since {_time(run.started_at)}" if runs else "A worker has it"  # type: ignore[union-attr, arg-type]
        on = f" on {run.worker}" if run is not None and run.worker else ""
        return f"{what}{on}; its lease ends in {left:.0f} s unless its worker renews it"
    if message.state is MessageState.SCHEDULED and message.at is not None:
        return f"It is due at {_time(datetime.fromtimestamp(message.at / 1000, UTC))}"
    if message.state is MessageState.READY:
        return f"It waits in the line itself: {message.position or 0} go before it"
    return None


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
