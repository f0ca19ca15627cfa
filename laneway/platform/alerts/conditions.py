"""The conditions of the rules: each looks at the snapshot, and returns the problems that exist now.

None means that it cannot be known now. A condition may raise BrokerUnavailable, which means the same; so does any other
error, which is logged, and is a fault of the condition.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from laneway.platform.alerts.snapshot import Snapshot
from laneway.platform.db.queries import outbound_webhooks, trouble, workers
from laneway.platform.operations.readiness import shared_name_problem
from laneway.platform.probes import canaries
from laneway.platform.schedules.watch import BEAT
from laneway.platform.webhooks.endpoint_rules import alert_message
from laneway.worker.stuck import TOOK_NONE

START_BEAT: Final = (
    "Start Beat: `laneway up` starts it with the others, `celery -A laneway.platform.project beat` alone. "
    "If it runs, its log says why it does not send."
)
MEND_ENTRY: Final = (
    "Beat works. Mend what the reason names: make room in a full queue, or correct the entry. "
    "It is sent when it is due next."
)
CANARY_ADVICE: Final = (
    "Any task of the queue takes as long. See why it waits: `laneway why {id}`. If workers serve the queue and run "
    "nothing (`laneway workers`), see their logs, and start them again."
)
MOST: Final = 100
"""At most this many problems of one rule become alerts."""


class Problem(NamedTuple):
    """A problem that exists now. The kind of its rule and its subject identify its alert."""

    subject: str
    text: str
    """What is wrong, without a full stop at its end."""
    advice: str = ""
    """What to do, if it is not what the rule says."""


def failing_tasks(snapshot: Snapshot) -> Iterator[Problem]:
    """Names of tasks that keep failing for good."""
    with snapshot.watched.database.reading() as session:
        failures = trouble.count_failures(session, since=snapshot.hour_ago)
    for task, count in failures.items():
        if count >= snapshot.settings.failures:
            yield Problem(task, f"{task} failed for good {count} times within an hour")


def new_errors(snapshot: Snapshot) -> Iterator[Problem]:
    """Groups of errors of which there was none an hour ago. Their texts are left out: they may hold data of persons."""
    with snapshot.watched.database.reading() as session:
        groups = trouble.new_error_groups(session, since=snapshot.hour_ago, limit=MOST)
    for found in groups:
        times = "once" if found.number == 1 else f"{found.number} times"
        yield Problem(
            f"{found.group} {found.name}",
            f"{found.name} failed {times} in a way that is new: {found.error_type} (group {found.group})",
        )


def full_queues(snapshot: Snapshot) -> Iterator[Problem]:
    """Queues with many tasks that are due and wait."""
    limit = snapshot.settings.backlog
    for waiting in snapshot.waiting:
        if waiting.number >= limit:
            text = f"{_tasks_wait(waiting.number)} in the queue {waiting.queue!r} (ALERT_BACKLOG is {limit})"
            yield Problem(waiting.queue, text)


def old_tasks(snapshot: Snapshot) -> Iterator[Problem]:
    """Queues whose oldest task waits for long."""
    limit = snapshot.settings.oldest_seconds
    for waiting in snapshot.waiting:
        age = _age(snapshot, waiting.since)
        if age < limit:
            continue
        queue = snapshot.queues.get(waiting.queue)
        paused = ", which is paused" if queue is not None and queue.paused else ""
        yield Problem(
            waiting.queue,
            f"the oldest task in the queue {waiting.queue!r}{paused} has waited for {_in_words(age)} "
            f"(ALERT_OLDEST_SECONDS is {limit:g})",
        )


def unserved_queues(snapshot: Snapshot) -> list[Problem] | None:
    """Queues in which tasks wait and that no live worker serves."""
    if snapshot.database_was_held:
        return None
    return [
        Problem(name, f"{_tasks_wait(queue.pending)} in the queue {name!r}, which no live worker serves")
        for name, queue in snapshot.queues.items()
        if queue.pending and not queue.workers
    ]


def late_canaries(snapshot: Snapshot) -> Iterator[Problem]:
    """Queues whose canary has not ended for long. A paused queue is left out."""
    with snapshot.watched.database.reading() as session:
        readings = canaries.read(session, now=snapshot.now)
    limit = snapshot.settings.late_canary
    for canary in readings:
        queue = snapshot.queues.get(canary.queue)
        if canary.overdue < limit or (queue is not None and queue.paused):
            continue
        text = f"the canary of the queue {canary.queue!r} has not ended for {_in_words(canary.overdue)}"
        yield Problem(canary.queue, f"{text} (ALERT_CANARY_SECONDS is {limit:g})", CANARY_ADVICE.format(id=canary.id))


def growing_dead_letters(snapshot: Snapshot) -> Iterator[Problem]:
    """Queues that got many dead letters."""
    with snapshot.watched.database.reading() as session:
        dead = trouble.count_dead_letters(session, since=snapshot.hour_ago)
    limit = snapshot.settings.dead_letters
    for queue, number in dead.items():
        if number >= limit:
            came = "1 dead letter" if number == 1 else f"{number} dead letters"
            text = f"{came} came in the queue {queue!r} within an hour"
            yield Problem(queue, f"{text} (ALERT_DEAD_LETTERS_PER_HOUR is {limit})")


def schedules_at_a_standstill(snapshot: Snapshot) -> Iterator[Problem]:
    """Schedules that were due and were not sent."""
    schedules = snapshot.watched.schedules
    for found in schedules.standstills() if schedules else ():
        advice = START_BEAT if found.subject == BEAT else MEND_ENTRY if found.is_refused else ""
        yield Problem(found.subject, found.reason.removesuffix("."), advice)


def unread_journals(snapshot: Snapshot) -> Iterator[Problem]:
    """Queues whose events the database lacks."""
    limit = snapshot.settings.unread_events
    for queue, number in snapshot.watched.recorder.unread().items():
        if number >= limit:
            of = f"of the queue {queue!r}"
            text = f"1 event {of} is" if number == 1 else f"{number} events {of} are"
            text += " not in the database yet"
            yield Problem(queue, f"{text} (ALERT_UNREAD_EVENTS is {limit})")


def unsent_tasks(snapshot: Snapshot) -> Iterator[Problem]:
    """Queues with accepted tasks that the broker does not have for long."""
    with snapshot.watched.database.reading() as session:
        found = trouble.unsent(session, now=snapshot.now)
    limit = snapshot.settings.outbox_seconds
    for waiting in found:
        age = _age(snapshot, waiting.since)
        if age >= limit:
            are = "1 accepted task is" if waiting.number == 1 else f"{waiting.number} accepted tasks are"
            text = f"{are} not in the queue {waiting.queue!r} yet, the oldest for {_in_words(age)}"
            yield Problem(waiting.queue, f"{text} (ALERT_OUTBOX_SECONDS is {limit:g})")


def full_broker(snapshot: Snapshot) -> Iterator[Problem]:
    """The memory of the broker, if it has a limit."""
    broker = snapshot.watched.broker
    if broker.engine is None:
        return
    with broker.guarded():
        used, limit = broker.engine.memory()
    percent = 100 * used / limit if limit else 0
    if limit and percent >= snapshot.settings.broker_memory:
        text = f"the broker uses {percent:.0f} % of its memory of {limit / 1_048_576:.0f} MiB"
        yield Problem("broker", f"{text} (ALERT_BROKER_MEMORY_PERCENT is {snapshot.settings.broker_memory:g})")


def full_disks(snapshot: Snapshot) -> list[Problem] | None:
    """Machines with live workers whose disk of the data folder is nearly full."""
    if snapshot.database_was_held:
        return None
    with snapshot.watched.database.reading() as session:
        free = workers.free_disks(session, now=snapshot.now)
    least = snapshot.settings.disk_free
    return [
        Problem(host, f"the disk of DATA_DIR on {host} has {percent:.1f} % free (ALERT_DISK_FREE_PERCENT is {least:g})")
        for host, percent in free.items()
        if percent < least
    ]


def stranded_messages(snapshot: Snapshot) -> Iterator[Problem]:
    """Messages of other programs that wait where no worker looks."""
    for each in snapshot.stranded:
        yield Problem(each.queue, str(each))


def undeclared_queues(snapshot: Snapshot) -> Iterator[Problem]:
    """Messages in queues that the application does not declare, and that no worker takes."""
    stranded = {each.queue for each in snapshot.stranded}
    unknown = snapshot.watched.unknown_queues
    for queue in unknown.look() if unknown else ():
        if queue.queue not in stranded and not queue.running:
            yield Problem(queue.queue, str(queue))


def shared_worker_names(snapshot: Snapshot) -> Iterator[Problem]:
    """Names that several live workers have."""
    with snapshot.watched.database.reading() as session:
        shared = workers.shared_names(session, now=snapshot.now)
    for worker, number in shared.items():
        yield Problem(worker, shared_name_problem(worker, number).removesuffix("."))


def stuck_workers(snapshot: Snapshot) -> Iterator[Problem]:
    """Workers that took no work although some waited, and restarted themselves within the last hour."""
    with snapshot.watched.database.reading() as session:
        found = workers.stuck(session, beginning=TOOK_NONE, since=snapshot.hour_ago)
    for worker in found[:MOST]:
        yield Problem(worker.name, f"the worker {worker.name} {worker.ended}, and was restarted")


def disabled_receivers(snapshot: Snapshot) -> Iterator[Problem]:
    """Receivers of outbound webhooks that were disabled by what they answered."""
    with snapshot.watched.database.reading() as session:
        disabled = outbound_webhooks.disabled_automatically(session, limit=MOST)
    for endpoint in disabled:
        yield Problem(endpoint.id, alert_message(endpoint))


def _tasks_wait(number: int) -> str:
    return "1 task waits" if number == 1 else f"{number} tasks wait"


def _age(snapshot: Snapshot, since: datetime) -> float:
    return (snapshot.now - since).total_seconds()


def _in_words(seconds: float) -> str:
    """A time as people say it: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
