"""Changes the messages of many tasks in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from laneway.engine.admin import Admin
from laneway.engine.message import pack_id
from laneway.engine.replies import CancelResult, LeaseStatus

MAX_PRIORITY: Final = 9
MAX_TASKS: Final = 500
"""Tasks of one script: other clients wait for its end."""


def cancel_many(admin: Admin, queue: str, tasks: Sequence[tuple[str, int | None]]) -> list[CancelResult]:
    """Cancel each of the tasks, given with its version, as `Admin.cancel` does."""
    script, key = admin.runner.scripts["cancel"], admin.keys.queue(queue)
    commands = [
        (b"EVALSHA", script.sha, 1, key, pack_id(id), b"" if version is None else version) for id, version in tasks
    ]
    replies = admin.runner.on_connection(lambda connection: admin.runner.evaluate_all(connection, script, commands))
    return [CancelResult(*reply) for reply in replies]


def reprioritise(admin: Admin, queue: str, task_ids: Sequence[str], *, priority: int) -> list[LeaseStatus]:
    """Give the waiting messages of these tasks a priority from 0 to 9: DONE, or UNKNOWN for a task that has none.

    A message keeps its place among those of the same priority that were put before and after it. One that waits behind
    its ordering key stays there. Raises ValueError for another priority.
    """
    if not 0 <= priority <= MAX_PRIORITY:
        raise ValueError(f"a priority is from 0 to {MAX_PRIORITY}, not {priority}")
    keys, codes = (admin.keys.queue(queue),), list[LeaseStatus]()
    for start in range(0, len(task_ids), MAX_TASKS):
        ids = [pack_id(id) for id in task_ids[start : start + MAX_TASKS]]
        codes += [LeaseStatus(code) for code in admin.runner.run("reprioritise", keys, (priority, *ids))]
    return codes
