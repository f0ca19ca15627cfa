"""One worker in the foreground, which says at its end what it did: `python -m laneway.cli.worker`.

Celery's own command runs in this process: signals, kill -9 and the pool's children are as with `celery worker`. Nothing
is imported before gevent, if that is the pool, has patched what it must.
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
"""The one argument that is not Celery's; it comes first."""


def main(argv: Sequence[str]) -> int:
    """Run a worker with these arguments of `celery`, and print its figures; Celery's exit code."""
    as_json, words = argv[:1] == [JSON], [word for word in argv if word != JSON]
    from celery import maybe_patch_concurrency

    maybe_patch_concurrency(["celery", *words])
    from laneway.platform.application import application

    celery_app = application().celery_app()
    shift = _begin(words[words.index("-n") + 1])
    try:
        code: Any = celery_app.start(words)
    except SystemExit as end:
        code = end.code
    finally:
        _tell(shift, as_json=as_json)
    return code if isinstance(code, int) else 0


def _begin(name: str) -> WorkerMeter | None:
    from celery.utils.nodenames import default_nodename, host_format

    from laneway.platform.errors import PlatformError
    from laneway.platform.history.worker_summary import WorkerMeter

    own = _platform()
    worker: Any = host_format(default_nodename(name))
    shift = WorkerMeter(own.database, own.recorder, worker=str(worker))
    try:
        shift.start()
    except PlatformError as error:
        _say(f"{worker} will not say what it did: {error}", err=True)
        return None
    finally:
        own.close()  # nothing may be open while the pool forks its children
    return shift


def _tell(shift: WorkerMeter | None, *, as_json: bool) -> None:
    from laneway.platform.errors import PlatformError

    if shift is None:
        return
    try:
        found = shift.totals()
    except PlatformError as error:
        _say(f"What it did cannot be said: {error}", err=True)
        return
    _say(json.dumps(asdict(found)) if as_json else told(found))


def told(found: WorkerTotals) -> str:
    """The figures for a person."""
    lines = [
        f"{found.worker} worked for {found.seconds:.1f} s",
        f"processed {found.processed}: completed {found.completed}, failed {found.failed}, retried {found.retried}"
        + (f", cancelled {found.cancelled}" if found.cancelled else "")
        + (f", snoozed {found.snoozed}" if found.snoozed else ""),
    ]
    if found.mean_seconds is not None and found.p95_seconds is not None:
        lines.append(f"time mean {found.mean_seconds:.3f} s, p95 {found.p95_seconds:.3f} s")
    if found.unfinished:
        lines.append(f"not finished here, to be delivered again: {found.unfinished}")
    return "\n".join(lines)


def _say(text: str, *, err: bool = False) -> None:
    from typer import echo

    echo(text, err=err)


def _platform() -> Platform:
    from laneway.platform.application import application

    return application().make_platform(application().load_settings())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
