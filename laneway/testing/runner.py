"""Runs a task in the process of a test, without servers, as a worker would run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from laneway.platform.execution.local_platform import LocalPlatform
from laneway.platform.execution.local_run import LocalRun, run_chunks_locally, run_locally, task_settings
from laneway.platform.execution.task import PlatformTask
from laneway.platform.settings import TaskSettings
from laneway.schemas.payload import Payload
from laneway.testing.clock import Clock
from laneway.testing.logs import structured_logs


def run(
    task: PlatformTask,
    payload: Payload | Mapping[str, Any] | None = None,
    *,
    attempts: int | None = None,
    steps: Mapping[str, Any] | None = None,
    signals: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    cancel_at: int | None = None,
    id: str | None = None,
    platform: object | None = None,
    settings: TaskSettings | None = None,
    reraise: bool = False,
    at: datetime | Clock | None = None,
) -> LocalRun:
    """Run a task to its end, with all its retries and snoozes, and return what it did. Nothing waits.

        assert laneway.testing.run(make_thumbnail, {"url": "https://example.org/cat.png"}).result == {"width": 64}

    `attempts`: stop after so many runs; the state is then SCHEDULED if the task would run again. `steps`: what earlier
    attempts have stored. `signals`: name → data of the signals that the task gets; a further one does not come.
    `cancel_at`: the task learns at this report (progress, step, loop item, `raise_if_cancelled`), counted from 1, that
    it was cancelled. `platform`: has the services that the task uses besides `platform.tasks`. `reraise`: raise the
    exception of the first attempt that fails. `at`: the time at which the platform's clock stands, or a `Clock`.

    Raises InvalidPayload; RuntimeError for a task that is snoozed without end.
    """
    limits, clock = settings or task_settings(), at if isinstance(at, Clock) else Clock(at)
    with structured_logs(), clock.installed():
        return run_locally(
            task,
            payload or {},
            local=lambda record: LocalPlatform(limits, record, behind=platform, cancel_at=cancel_at),
            settings=limits,
            id=id,
            attempts=attempts,
            steps=steps,
            signals=signals,
            reraise=reraise,
            wait=clock.move,
        )


def run_many(
    task: PlatformTask,
    payloads: Sequence[Payload | Mapping[str, Any]],
    *,
    platform: object | None = None,
    settings: TaskSettings | None = None,
    at: datetime | Clock | None = None,
) -> list[LocalRun]:
    """Run tasks in chunks, as a worker that has gathered them, to the end of each; `run` runs a chunk of one.

        runs = laneway.testing.run_many(send_mails, [{"to": "ada@example.org"}, {"to": "nobody"}])
        assert [run.state for run in runs] == ["completed", "failed"]

    A chunk has the first tasks that have not ended, up to the size of the declaration; those to be retried run in later
    ones. What the function submits and logs is in the record of each run. Raises InvalidPayload; TypeError for a task
    that does not run in chunks.
    """
    limits, clock = settings or task_settings(), at if isinstance(at, Clock) else Clock(at)
    with structured_logs(), clock.installed():
        return run_chunks_locally(
            task, payloads, local=lambda record: LocalPlatform(limits, record, behind=platform), settings=limits
        )
