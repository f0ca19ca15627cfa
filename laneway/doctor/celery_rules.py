"""The rules for Celery's settings that hurt: tasks that are lost, run twice, wait for nothing or never end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from laneway.doctor.celery_facts import CeleryFacts, TaskFacts
from laneway.doctor.findings import Check, Fine, Outcome, error, warning

AREA: Final = "celery"
LEAST_CHILD_KIB: Final = 50_000
"""A Python process with a small application takes more than this."""
FEW_TASKS: Final = 10
SHORT_EXPIRY: Final = 60
DEFAULT_ATTEMPTS: Final = 100
UNSAFE_TYPES: Final = frozenset({"pickle", "application/x-python-serialize"})
MOST_NAMES: Final = 5
STOCK_SCHEDULER: Final = "celery.beat:PersistentScheduler"


def _names(tasks: Iterable[TaskFacts]) -> str:
    """The names of some tasks, and how many more there are."""
    names = [task.name for task in tasks]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _limits_are_kept(facts: CeleryFacts) -> bool:
    """Whether the pool keeps time limits: pools without processes of their own cannot end a task."""
    return not any(word in facts.pool.lower() for word in ("solo", "thread"))


def transport(facts: CeleryFacts) -> Outcome:
    if facts.on_engine and facts.is_installed:
        return Fine("on the delivery engine")
    if facts.on_engine:
        return warning(
            "The transport is the engine's, but laneway.install was not called.",
            why="A task may start although another worker has taken it over, and an ETA is waited for twice.",
            do="laneway.install(app), right after the app is made.",
        )
    return Fine("on kombu's own transport" if facts.on_redis else "on another broker")


def eager(facts: CeleryFacts) -> Outcome:
    if not facts.always_eager:
        return Fine("tasks go to workers")
    return error(
        "task_always_eager is on.",
        why="A task runs in the program that sends it; nothing is queued, retried or kept.",
        do="app.conf.task_always_eager = False (tests: laneway.testing)",
    )


def acks_late(facts: CeleryFacts) -> Outcome:
    early = [task for task in facts.plain_tasks if not task.acks_late]
    if not early:
        return Fine("tasks are acknowledged when they are done")
    return error(
        f"These tasks are acknowledged before they run: {_names(early)}.",
        why="When a worker dies, the tasks that it runs are lost, and an ordering key is free too early.",
        do="app.conf.task_acks_late = True; for a task that must not run twice leave it, with acks_late=False.",
    )


def lost_process(facts: CeleryFacts) -> Outcome:
    late = [task for task in facts.plain_tasks if task.acks_late]
    given_up = [task for task in late if not task.rejects_lost]
    if given_up:
        return warning(
            f"These tasks do not run again when their pool process is killed: {_names(given_up)}.",
            why="A process that the kernel ends for its memory makes its task a failure, with WorkerLostError.",
            do="app.conf.task_reject_on_worker_lost = True",
        )
    if late and not facts.on_engine:
        return warning(
            f"These tasks run again without end when they kill their process: {_names(late)}.",
            why="kombu's Redis transport does not count deliveries; one such task ends one process after the other.",
            do="laneway.install(app): the engine makes it a dead letter after five deliveries.",
        )
    return Fine("a task whose process is killed runs again")


def timed_out(facts: CeleryFacts) -> Outcome | None:
    again = [task for task in facts.plain_tasks if task.acks_late and not task.acks_on_timeout]
    if facts.on_engine or not again:
        return None
    return warning(
        f"These tasks run again without end when they exceed their time limit: {_names(again)}.",
        why="kombu's transports do not count deliveries.",
        do="app.conf.task_acks_on_timeout = True",
    )


def prefetch(facts: CeleryFacts) -> Outcome:
    multiplier = facts.prefetch_multiplier
    if multiplier == 0:
        return error(
            "worker_prefetch_multiplier is 0.",
            why="One worker takes all waiting tasks into its memory, and the others get none.",
            do="app.conf.worker_prefetch_multiplier = 1",
        )
    if multiplier == 1:
        return Fine("a worker holds as many tasks as it can run")
    return warning(
        f"worker_prefetch_multiplier is {multiplier}.",
        why="Tasks wait behind a long one in a busy worker while others are idle. Only tasks of milliseconds gain.",
        do="app.conf.worker_prefetch_multiplier = 1",
    )


def visibility(facts: CeleryFacts) -> Outcome | None:
    if facts.on_engine or not facts.on_redis:
        return None
    limit = facts.visibility_timeout
    longer = [task for task in facts.tasks if task.time_limit is None or task.time_limit >= limit]
    if not longer:
        return Fine(f"visibility_timeout is {limit:.0f} s, longer than each task may run")
    return error(
        f"visibility_timeout is {limit:.0f} s, and these tasks may run longer: {_names(longer)}.",
        why="kombu's Redis transport delivers such a task again while it runs. So it does a task with a later ETA.",
        do="laneway.install(app) (leases are renewed), or task_time_limit below the timeout.",
    )


def unused_options(facts: CeleryFacts) -> Outcome:
    unused = facts.unused_options or {}
    if not unused:
        return Fine("all transport options have an effect")
    return warning(
        f"Transport options without an effect: {', '.join(unused)}.",
        why=" ".join(f"{name}: {why}." for name, why in unused.items()),
        do="Remove them from broker_transport_options.",
    )


def time_limit(facts: CeleryFacts) -> Outcome:
    endless = [task for task in facts.tasks if task.time_limit is None]
    if not _limits_are_kept(facts):
        return warning(
            f"The pool {facts.pool} keeps no time limits.",
            why="A task that hangs keeps its place for ever, and its lease is renewed as long.",
            do="worker_pool = prefork, or a timeout in each call that waits.",
        )
    if endless:
        return warning(
            f"These tasks have no time limit: {_names(endless)}.",
            why="A task that hangs keeps its pool process and its lease for ever.",
            do="app.conf.task_time_limit = 600, or time_limit of the task.",
        )
    return Fine("each task has a time limit")


def soft_limit(facts: CeleryFacts) -> Outcome | None:
    late = [
        task
        for task in facts.tasks
        if task.soft_time_limit and task.time_limit and task.soft_time_limit >= task.time_limit
    ]
    if not late:
        return Fine("soft time limits come first")
    return warning(
        f"The soft time limit is not below the time limit: {_names(late)}.",
        why="The process is killed before the task gets its chance to stop.",
        do="Set task_soft_time_limit below task_time_limit.",
    )


def retries(facts: CeleryFacts) -> Outcome:
    endless = [task for task in facts.plain_tasks if task.max_retries is None]
    if not endless:
        return Fine("retries end")
    return warning(
        f"These tasks are retried without end: {_names(endless)}.",
        why="A task that can never succeed comes back for ever, and nobody is told.",
        do="max_retries of the task.",
    )


def pickle(facts: CeleryFacts) -> Outcome:
    accepted = UNSAFE_TYPES & {*facts.accepted, *facts.results_accepted}
    if accepted:
        return error(
            "Workers accept pickle.",
            why="Whoever can write to the broker can run any code in the workers.",
            do="app.conf.accept_content = ['json'], after the senders use JSON.",
        )
    if "pickle" in (facts.task_serializer, facts.result_serializer):
        return error(
            "task_serializer or result_serializer is pickle, which accept_content refuses.",
            why="Workers cannot read these messages.",
            do="app.conf.task_serializer = app.conf.result_serializer = 'json'",
        )
    return Fine(", ".join(facts.accepted))


def result_expiry(facts: CeleryFacts) -> Outcome | None:
    if not facts.result_backend:
        return None
    if facts.result_expires is None:
        return warning(
            "result_expires is off.",
            why="Results are never deleted; on Redis they fill the memory.",
            do="app.conf.result_expires = 86400",
        )
    if facts.result_expires < SHORT_EXPIRY:
        return warning(
            f"result_expires is {facts.result_expires:.0f} s.",
            why="Who asks later finds no result, and a chord whose parts take longer never ends.",
            do="app.conf.result_expires = 86400",
        )
    return Fine(f"results are kept for {facts.result_expires:.0f} s")


def children(facts: CeleryFacts) -> Outcome:
    memory, tasks = facts.max_memory_per_child, facts.max_tasks_per_child
    if (memory or tasks) and ("prefork" not in facts.pool and "processes" not in facts.pool):
        return warning(
            f"worker_max_tasks_per_child or worker_max_memory_per_child is set, and the pool is {facts.pool}.",
            why="Only the pool prefork replaces its processes.",
            do="worker_pool = prefork, or remove the setting.",
        )
    if memory and memory < LEAST_CHILD_KIB:
        return error(
            f"worker_max_memory_per_child is {memory} KiB.",
            why="Every process has more than that, so each is replaced after each task. The unit is KiB.",
            do=f"app.conf.worker_max_memory_per_child = {memory * 1024}, if {memory} MiB was meant.",
        )
    if tasks and tasks < FEW_TASKS:
        return warning(
            f"worker_max_tasks_per_child is {tasks}.",
            why="A new process takes many times as long as a short task; meanwhile nothing runs in its place.",
            do="app.conf.worker_max_tasks_per_child = 1000, or worker_max_memory_per_child.",
        )
    return Fine("pool processes are replaced seldom or never")


def reconnecting(facts: CeleryFacts) -> Outcome:
    attempts = facts.reconnect_attempts
    if facts.reconnects and (attempts is None or attempts >= DEFAULT_ATTEMPTS):
        return Fine("workers connect again")
    found = f"broker_connection_max_retries is {attempts}" if facts.reconnects else "broker_connection_retry is off"
    return warning(
        f"{found}.",
        why="A worker ends when the broker restarts.",
        do="app.conf.broker_connection_retry = True and app.conf.broker_connection_max_retries = None",
    )


def connection_loss(facts: CeleryFacts) -> Outcome:
    if not facts.kills_on_connection_loss:
        return Fine("running tasks survive a lost connection")
    return warning(
        "worker_cancel_long_running_tasks_on_connection_loss is on.",
        why="Each restart of the broker kills all running tasks. The engine keeps their leases, so it need not.",
        do="app.conf.worker_cancel_long_running_tasks_on_connection_loss = False",
    )


def remote_control(facts: CeleryFacts) -> Outcome:
    if facts.remote_control:
        return Fine("remote control is on")
    return warning(
        "worker_enable_remote_control is off.",
        why="`inspect`, Flower and revoke(terminate=True) reach no worker.",
        do="app.conf.worker_enable_remote_control = True",
    )


def missing_queues(facts: CeleryFacts) -> Outcome:
    if not (facts.creates_missing_queues and facts.declared_queues):
        return Fine("a misspelt queue is refused" if facts.declared_queues else "no queues are declared")
    return warning(
        "task_create_missing_queues is on, although task_queues declares the queues.",
        why="A misspelt queue is created, and no worker reads it.",
        do="app.conf.task_create_missing_queues = False",
    )


def protocol(facts: CeleryFacts) -> Outcome:
    if facts.protocol == 2:
        return Fine("task protocol 2")
    return warning(
        f"task_protocol is {facts.protocol}.",
        why="Its messages have no headers: ordering keys, signatures and limits do not work.",
        do="Remove task_protocol.",
    )


def utc(facts: CeleryFacts) -> Outcome:
    if facts.uses_utc:
        return Fine("times are UTC")
    return warning(
        "enable_utc is off.",
        why="ETAs and expiries without a zone are read in each machine's own zone.",
        do="app.conf.enable_utc = True",
    )


def beat(facts: CeleryFacts) -> Outcome | None:
    if not facts.beat_entries:
        return None
    if facts.beat_scheduler != STOCK_SCHEDULER:
        return Fine(f"{facts.beat_entries} schedules")
    return warning(
        "Beat keeps its schedule in a file.",
        why="A second Beat sends everything twice, and on a new machine the times of the last sends are lost.",
        do="app.conf.beat_scheduler = 'redbeat.RedBeatScheduler', or the platform's schedules.",
    )


CHECKS: Final = (
    Check("transport", transport),
    Check("task_always_eager", eager),
    Check("task_acks_late", acks_late),
    Check("task_reject_on_worker_lost", lost_process),
    Check("task_acks_on_timeout", timed_out),
    Check("worker_prefetch_multiplier", prefetch),
    Check("visibility_timeout", visibility),
    Check("broker_transport_options", unused_options),
    Check("task_time_limit", time_limit),
    Check("task_soft_time_limit", soft_limit),
    Check("max_retries", retries),
    Check("accept_content", pickle),
    Check("result_expires", result_expiry),
    Check("worker_max_*_per_child", children),
    Check("broker_connection_retry", reconnecting),
    Check("connection loss", connection_loss),
    Check("worker_enable_remote_control", remote_control),
    Check("task_create_missing_queues", missing_queues),
    Check("task_protocol", protocol),
    Check("enable_utc", utc),
    Check("beat_scheduler", beat),
)
