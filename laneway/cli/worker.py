"""Runs one worker in the foreground and prints at its end what it did: `python -m laneway.cli.worker`.

Celery's own command runs in this process, so that signals, kill -9 and the children of the pool work as with
`celery worker`. Imports are inside functions, because with the gevent pool nothing may be imported before gevent has
patched the standard library.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laneway.platform.history.worker_summary import WorkerMeter, WorkerTotals
    from laneway.platform.platform import Platform

JSON = "--json"
"""The only argument that is not Celery's. It comes first."""


def main(argv: Sequence[str]) -> int:
    """Run a worker with these arguments of `celery`, print its totals, and return Celery's exit code."""
    as_json, words = argv[:1] == [JSON], [word for word in argv if word != JSON]
    from celery import maybe_patch_concurrency

    maybe_patch_concurrency(["celery", *words])
    from laneway.platform.application import application
    from laneway.platform.errors import ConfigError

    try:
        celery_app = application().celery_app()
    except ConfigError as error:
        _print(str(error), to_stderr=True)
        return 2
    summary = _begin_summary(words[words.index("-n") + 1])
    code: Any = None
    try:
        code = celery_app.start(words)
    except SystemExit as end:
        code = end.code
    finally:
        if not isinstance(code, str):
            _print_summary(summary, as_json=as_json)
    if isinstance(code, str):  # why the worker could not start
        _print(code, to_stderr=True)
        return 1
    return code or 0


def _begin_summary(name: str) -> WorkerMeter | None:
    """Start to count the tasks of this worker. Print a message and return None if the database does not answer."""
    from celery.utils.nodenames import default_nodename, host_format

    from laneway.platform.errors import PlatformError
    from laneway.platform.history.worker_summary import WorkerMeter

    platform = _platform()
    worker: Any = host_format(default_nodename(name))
    summary = WorkerMeter(platform.database, platform.recorder, worker=str(worker))
    try:
        summary.start()
    except PlatformError as error:
        _print(f"{worker} will print no summary: {error}", to_stderr=True)
        return None
    finally:
        platform.close()  # no connection may be open while the pool forks its children
    return summary


def _print_summary(summary: WorkerMeter | None, *, as_json: bool) -> None:
    from laneway.platform.errors import PlatformError

    if summary is None:
        return
    try:
        figures = summary.totals()
    except PlatformError as error:
        _print(f"There is no summary: {error}", to_stderr=True)
        return
    _print(json.dumps(asdict(figures)) if as_json else summary_text(figures))


def summary_text(figures: WorkerTotals) -> str:
    """The figures of a worker in a few lines."""
    lines = [
        f"{figures.worker} ran for {figures.seconds:.1f} s",
        f"processed {figures.processed}: completed {figures.completed}, failed {figures.failed}, "
        f"retried {figures.retried}"
        + (f", cancelled {figures.cancelled}" if figures.cancelled else "")
        + (f", snoozed {figures.snoozed}" if figures.snoozed else ""),
    ]
    if figures.mean_seconds is not None and figures.p95_seconds is not None:
        lines.append(f"seconds per task: mean {figures.mean_seconds:.3f}, p95 {figures.p95_seconds:.3f}")
    if figures.unfinished:
        lines.append(f"not finished, will be delivered again: {figures.unfinished}")
    return "\n".join(lines)


def _print(text: str, *, to_stderr: bool = False) -> None:
    from typer import echo

    from laneway._printable import printable

    echo(printable(text), err=to_stderr)


def _platform() -> Platform:
    from laneway.platform.application import application

    return application().make_platform(application().load_settings())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
