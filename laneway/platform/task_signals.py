"""Sends signals to tasks. A signal is kept until the task waits for it."""

from __future__ import annotations

from typing import Any, Final

from laneway.platform import clock
from laneway.platform.audit_log.recording import record
from laneway.platform.db.models import TaskSignal
from laneway.platform.db.queries import task_runs, task_waits
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.errors import Conflict, WrongState
from laneway.platform.logging import logger
from laneway.platform.registry import registry
from laneway.platform.settings import TaskSettings
from laneway.platform.strict_json import strict_json
from laneway.platform.submission.outbox import Outbox
from laneway.platform.submission.wakes import submit_wake
from laneway.platform.task_reader import TaskReader
from laneway.platform.wait_errors import InvalidTaskSignal
from laneway.schemas.task import FINISHED
from laneway.schemas.task_signal import TaskSignalResponse

log = logger(__name__)

MAX_SIGNALS: Final = 1_000
"""Signals that one task may receive."""
LONGEST_NAME: Final = 100
DATA_LIMIT: Final = 250_000
"""Characters of JSON that a signal may bring."""


class TaskSignals:
    """Sends signals to tasks."""

    def __init__(self, outbox: Outbox, reader: TaskReader, settings: TaskSettings) -> None:
        self._outbox, self._reader, self._settings = outbox, reader, settings

    def send(self, id: str, name: str, *, data: dict[str, Any], key: str = "") -> TaskSignalResponse:
        """Store a signal, and wake the task if it waits for it. Sending the same signal again changes nothing.

        Raises UnknownTask, WrongState when the task is over, InvalidTaskSignal, Conflict for other data under this key.
        """
        _check(name, data)
        self._reader.current(id)
        with self._outbox.transaction() as unit:
            run = task_runs.get(unit.session, id, lock=True)
            known = task_waits.signal(unit.session, id, name, key)
            if known is not None:
                if known.data != data:
                    raise Conflict(f"The signal {name!r} was sent before with other data; a further one needs an id.")
                return TaskSignalResponse(task_id=id, signal=name, created=False, awaited=False)
            if run.state in FINISHED:
                raise WrongState(id, run.state, "sent a signal")
            if task_waits.count_signals(unit.session, id) >= MAX_SIGNALS:
                raise Conflict(f"Task {id!r} has been sent {MAX_SIGNALS} signals, which is the limit.")
            kept = self._sealed(run.name, data)
            unit.session.add(TaskSignal(task_id=id, name=name, key=key, data=kept, received_at=clock.now()))
            target = task_waits.signal_target(id, name)
            awaited = bool(task_waits.targets_awaited(unit.session, WaitKind.SIGNAL, [target]))
            submit_wake(unit, WaitKind.SIGNAL, target)  # always: the task may be about to wait
            record(unit.session, "task.signal", ("task", id), after={"signal": name})
        log.info("signal sent to a task", task_id=id, signal=name, awaited=awaited)
        return TaskSignalResponse(task_id=id, signal=name, created=True, awaited=awaited)

    def _sealed(self, task: str, data: dict[str, Any]) -> dict[str, Any]:
        """The data, encrypted if the task is. With TASK_ENCRYPTION=all the column does that."""
        spec, sealer = registry.get(task), self._settings.sealer
        return sealer.result(spec, data) if spec is not None and not sealer.everything else data


def _check(name: str, data: dict[str, Any]) -> None:
    if not 0 < len(name) <= LONGEST_NAME or "\x00" in name:
        raise InvalidTaskSignal(name[:LONGEST_NAME], f"a name has 1 to {LONGEST_NAME} characters")
    try:
        size = len(strict_json(data))
    except (TypeError, ValueError) as error:
        raise InvalidTaskSignal(name, f"its data is no JSON: {error}") from None
    if size > DATA_LIMIT:
        raise InvalidTaskSignal(name, f"its data has {size} characters of JSON, more than {DATA_LIMIT}")
