# celery 5.7

from collections.abc import Callable, Mapping, Sequence

from celery._state import current_app as current_app
from celery.app.base import Celery as Celery
from celery.app.task import Task as Task

def maybe_patch_concurrency(
    argv: Sequence[str] | None = None,
    short_opts: Sequence[str] | None = None,
    long_opts: Sequence[str] | None = None,
    patches: Mapping[str, Callable[[], None]] | None = None,
) -> None: ...
