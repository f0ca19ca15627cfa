"""What the keys change. Each change asks before, and says what became of it, or why it was refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laneway.cli.board.background import ask

if TYPE_CHECKING:
    from textual.app import App

    from laneway.cli.source import Source

SHOWN_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Change:
    """A change. `make` returns what became of it, in one sentence."""

    question: str
    make: Callable[[], str]


def change(app: App[Any], wanted: Change, *, done: Callable[[], object]) -> None:
    """Ask, make the change, say its outcome, and call `done`."""
    from laneway.cli.board.dialogs import Confirm

    def say(text: str) -> None:
        app.notify(text, timeout=SHOWN_SECONDS, markup=False)
        done()

    def refused(reason: str) -> None:
        app.notify(reason, title="Refused", severity="error", timeout=SHOWN_SECONDS, markup=False)
        done()

    def answered(answer: bool | None) -> None:
        if answer:
            ask(wanted.make, then=say, failed=refused)

    app.push_screen(Confirm(wanted.question), answered)


def pause_queue(source: Source, queue: str, *, paused: bool) -> Change:
    """Pause or resume a queue; its limits stay."""
    verb = "Pause" if paused else "Resume"

    def make() -> str:
        from laneway.schemas.queue import QueueLimits

        now = source.limits_of(queue).model_dump(include=set(QueueLimits.model_fields))
        limits = source.set_limits(queue, QueueLimits(**{**now, "paused": paused}))
        later = "" if limits.in_force else " The broker gets it when it is back."
        return f"{queue} is {'paused: no task of it starts' if paused else 'open'}.{later}"

    return Change(f"{verb} the queue {queue}?", make)


def cancel_task(source: Source, id: str) -> Change:
    """Cancel a task."""

    def make() -> str:
        return f"{id} will not run." if source.cancel(id).cancelled else f"{id} runs, and is asked to stop."

    return Change(f"Cancel the task {id}?", make)


def retry_task(source: Source, id: str) -> Change:
    """Run a task that is over again."""
    return Change(f"Run the task {id} again?", lambda: f"Queued again: {source.retry(id).task_id}")


def requeue_task(source: Source, id: str) -> Change:
    """Queue one dead letter again."""

    def make() -> str:
        return _requeue(source, ids=[id])

    return Change(f"Requeue the dead letter {id}?", make)


def requeue_group(source: Source, group: str, *, number: str) -> Change:
    """Queue all dead letters of a group again."""

    def make() -> str:
        return _requeue(source, group=group)

    return Change(f"Requeue all {number} dead letters of the group {group}?", make)


def _requeue(source: Source, **selected: Any) -> str:
    from laneway.schemas.history import DeadLetterSelection

    outcome = source.change_dead_letters("requeue", DeadLetterSelection.model_validate(selected))
    refused = next(iter(outcome.refused.items()), None)
    more = f" {refused[0]}: {refused[1]}" if refused else ""
    return f"{outcome.done} of {outcome.matched} dead letters queued again.{more}"
