"""The scheduler of `celery beat`, which keeps schedules and firings in the database of the platform.

Celery calls `tick` for ever. While the database or the broker is away, it says so once and tries again; it never ends.
What came due meanwhile is sent as the schedules say (`missed.py`).
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from celery import Celery
from celery.beat import Scheduler
from celery.signals import beat_embedded_init

from laneway.platform.access.quota_errors import BrokerMemoryFull
from laneway.platform.current import current_platform, drop_inherited_platform
from laneway.platform.errors import BrokerUnavailable, DatabaseUnavailable, PlatformError
from laneway.platform.logging import logger
from laneway.platform.schedules.runner import ScheduleRunner

log = logger(__name__)

RETRY_SECONDS: Final = 1.0
"""Seconds between two tries while a server is away."""


class BeatScheduler(Scheduler):
    """Sends what is due while it leads, and database and broker can be reached."""

    def __init__(self, app: Celery, *, lazy: bool = False, **options: Any) -> None:
        """Ask no server yet: it may be away."""
        del lazy
        super().__init__(app, lazy=True, **options)
        self._runner: ScheduleRunner | None = None
        self._away: tuple[str, float] | None = None
        """What is away, and since when."""
        self._is_in_tick = False

    @property
    def problem(self) -> str | None:
        """Why it cannot work now, in a sentence; None: it leads, or waits until it may."""
        return f"The {self._away[0]} cannot be used." if self._away else None

    @property
    def leads(self) -> bool:
        """Whether it sends the schedules."""
        return self._runner is not None and self._runner.leads

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due. Returns the seconds until the next tick."""
        self._is_in_tick = True
        try:
            return self._tick()
        finally:
            self._is_in_tick = False

    def close(self) -> None:
        """Let another Beat lead. Without the database it takes over by itself.

        Celery calls it at a signal, also within a tick, which may write to the database. Then it ends the tick, and
        calls it again.
        """
        if self._runner is None or self._is_in_tick:
            return
        try:
            self._runner.close()
        except PlatformError as error:
            log.warning(f"Beat's lease is not given back, and ends by itself: {error}")

    def _tick(self) -> float:
        try:
            if self._runner is None:
                self._runner = _make_runner(self.app)
            seconds = self._runner.run()
        except (BrokerUnavailable, BrokerMemoryFull) as error:
            return self._note_away("broker", error)
        except DatabaseUnavailable as error:
            return self._note_away("database", error)
        except PlatformError as error:  # the tables are older than this program, for example
            return self._note_away("platform", error)
        except Exception:
            log.exception("Beat did not get on, and tries again.")
            return self.max_interval
        self._note_back()
        return self.max_interval if seconds is None else min(seconds, self.max_interval)

    def _note_away(self, what: str, error: PlatformError) -> float:
        if self._away is None or self._away[0] != what:
            self._away = what, monotonic()
            log.warning(f"The {what} is away. Beat goes on when it is back. {error}")
        return RETRY_SECONDS

    def _note_back(self) -> None:
        if self._away is not None:
            log.warning(f"The {self._away[0]} is back after {monotonic() - self._away[1]:.0f} s.")
            self._away = None


def _make_runner(app: Celery) -> ScheduleRunner:
    platform = current_platform()
    platform.schema_versions.check()
    return ScheduleRunner(app, platform.database, platform.broker, platform.tasks)


@beat_embedded_init.connect
def _drop_inherited_connections(**_: Any) -> None:
    """A Beat that a worker has forked (`celery worker -B`) makes a platform of its own."""
    drop_inherited_platform()
