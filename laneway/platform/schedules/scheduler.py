"""The scheduler of Beat: RedBeat's, which does not end when the broker goes away.

RedBeat keeps the schedule in Redis and lets one Beat send at a time, the holder of a lock. This scheduler adds:

1. While the broker is away, it says so once and tries again. RedBeat ends with the first error.
2. A Beat that lost its lock, because the broker or the Beat itself stood still for longer than the lock lasts, waits
   for it like any second Beat. RedBeat ends.
3. With the lock it stores the schedule again, because the broker may have lost it. It remembers what it sent last.
   Every 10 seconds it looks whether somebody has deleted an entry, and stores that again, too.
4. An entry whose mark lies in the future was sent by a clock that was ahead; RedBeat would leave it out until then.
   It is marked as sent now.
5. An entry that cannot be read, or cannot be sent, stops neither Beat nor the other entries. The reason is kept with
   the entry, for the alert (`schedules/watch.py`).
6. An entry that came due while the broker was away is sent once when it is back. So is one that was marked as sent when
   the broker went away, before its message was put; RedBeat would leave it out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from celery import Celery
from celery.beat import SchedulingError
from celery.signals import beat_init
from redbeat.schedulers import (
    LUA_EXTEND_TO_SCRIPT,
    RedBeatScheduler,
    RedBeatSchedulerEntry,
    acquire_distributed_beat_lock,
    ensure_conf,
    get_redis,
)
from redis.exceptions import LockError

from laneway.platform.broker_errors import translated_errors
from laneway.platform.errors import BrokerUnavailable, PlatformError
from laneway.platform.logging import logger
from laneway.platform.schedules.stored_entry import StoredEntry
from laneway.platform.schedules.watch import REFUSED

log = logger(__name__)

RETRY_SECONDS: Final = 1.0
"""Seconds between two tries to reach a broker that is away."""
CHECK_SECONDS: Final = 10.0
"""Seconds between two looks at the stored schedule."""
AHEAD: Final = timedelta(seconds=60)
"""A mark that lies further in the future than this was made by a clock that was ahead."""
MAX_REASON: Final = 500
"""Characters that are kept of the reason why an entry was not sent."""
MAX_ENTRIES: Final = 10_000
"""Entries whose marks are looked at."""

beat_init.disconnect(acquire_distributed_beat_lock)  # it waits for the lock once, and ends when the broker is away


class BeatScheduler(RedBeatScheduler):
    """Sends what is due, while it holds the lock and the broker can be reached."""

    Entry = StoredEntry
    _maybe_due_kwargs: Final = dict[str, Any]()
    """RedBeat would keep the producer of a connection that is gone."""

    def __init__(self, app: Celery, *, lazy: bool = False, **options: Any) -> None:
        """Store nothing yet: the broker may be away."""
        del lazy
        super().__init__(app, lazy=True, **options)
        self._away_since: float | None = None
        self._waits_for_lock = False
        self._unsent: dict[str, tuple[RedBeatSchedulerEntry, datetime]] = {}
        """Entries that are being sent, by name, each with the time that marks it as sent."""
        self._last_run_at: dict[str, datetime] = {}
        """When each entry was last sent, or first stored, as this Beat knows it."""
        self._check_at = 0.0

    @property
    def problem(self) -> str | None:
        """Why it cannot work now, in a sentence; None: it holds the lock, or waits for it."""
        return None if self._away_since is None else "The broker cannot be used."

    def tick(self, **options: Any) -> float:
        """Send what is due. Returns the seconds until the next tick."""
        try:
            with translated_errors():
                if not self._has_lock():
                    self._note_back()
                    return self.max_interval
                self._check_schedule()
                self._send_unsent()
                seconds = super().tick(**options)
        except BrokerUnavailable as error:
            self._note_away(error)
            return RETRY_SECONDS
        except Exception:
            log.exception("Beat did not get on, and tries again.")
            return self.max_interval
        self._note_back()
        return seconds

    def maybe_due(self, entry: RedBeatSchedulerEntry, **options: Any) -> float:
        """Send the entry if it is due. Returns the seconds until it is due next. Raises BrokerUnavailable."""
        del options
        try:
            is_due, seconds = entry.is_due()
        except Exception as error:  # its schedule, which anybody may have stored
            log.exception(f"It is not known when {entry.name} is due")
            self._note_refusal(entry, error)
            return self.max_interval
        if is_due:
            self._send(entry, advance=True)
        return seconds

    def reserve(self, entry: RedBeatSchedulerEntry) -> RedBeatSchedulerEntry:
        """Mark the entry as sent."""
        at = entry.default_now()
        self._unsent[entry.name] = entry, at
        self._last_run_at[entry.name] = at
        return entry._next_instance(last_run_at=at)  # pyright: ignore[reportPrivateUsage] - `next` takes no time

    def close(self) -> None:
        """Give the lock back. Without the broker it ends by itself."""
        try:
            with translated_errors():
                super().close()
        except BrokerUnavailable as error:
            self.lock = None
            log.warning(f"Beat's lock is not released, and ends within {self.lock_timeout:g} s: {error}")

    def _maybe_entry(self, name: str, entry: Any) -> Any:
        made = super()._maybe_entry(name, entry)
        made.last_run_at = min(self._last_run_at.setdefault(name, made.last_run_at), made.default_now())
        return made

    def _has_lock(self) -> bool:
        """Extend the lock, or try to take it."""
        if not self.lock_key:
            return True
        if self.lock is not None:
            try:
                self.lock.extend(int(self.lock_timeout))
            except LockError:  # it has ended
                self.lock = None
            else:
                return True
        return self._take_lock()

    def _take_lock(self) -> bool:
        client = get_redis(self.app)
        lock = client.lock(self.lock_key, timeout=self.lock_timeout)
        lock.lua_extend = client.register_script(LUA_EXTEND_TO_SCRIPT)  # extends it to a time, not by one
        if not lock.acquire(blocking=False):
            if not self._waits_for_lock:
                log.info("Another Beat sends the schedules; this one waits for its lock.")
            self._waits_for_lock = True
            return False
        self.lock, self._waits_for_lock = lock, False
        self.setup_schedule()
        log.info("This Beat has the lock and sends the schedules.")
        return True

    def _check_schedule(self) -> None:
        """Store deleted entries again, and correct the marks of a clock that was ahead."""
        if monotonic() < self._check_at:
            return
        client: Any = get_redis(self.app)
        conf = ensure_conf(self.app)
        names = {StoredEntry.generate_key(self.app, name): name for name in conf.schedule}
        stored: set[str] = set(client.zrange(conf.schedule_key, 0, MAX_ENTRIES - 1))
        entries = {key: found for key in {*names, *stored} if (found := self._read(key))}
        if missing := [key for key in names if key not in entries or key not in stored]:
            log.warning(f"Stored again, because somebody deleted or damaged them: {', '.join(sorted(missing))}")
            for key in missing:
                if key not in entries:
                    client.delete(key)  # what cannot be read would be kept in part
            self.setup_schedule()
        for entry in entries.values():
            self._correct_mark(entry)
        self._check_at = monotonic() + CHECK_SECONDS

    def _read(self, key: str) -> StoredEntry | None:
        try:
            return StoredEntry.from_key(key, app=self.app)
        except KeyError:
            return None

    def _correct_mark(self, entry: StoredEntry) -> None:
        now = entry.default_now()
        if entry.last_run_at is None or entry.last_run_at <= now + AHEAD:
            return
        log.error(
            f"{entry.name} is marked as sent at {entry.last_run_at:%Y-%m-%d %H:%M:%S} UTC, which lies in the future: "
            f"a clock was ahead. It is due again from now on; it may have been sent too early before."
        )
        self._last_run_at[entry.name] = now
        entry.reschedule(last_run_at=now)

    def _send_unsent(self) -> None:
        """Send the entries that were marked as sent and were not, unless somebody has marked them since."""
        for name, (entry, at) in list(self._unsent.items()):
            del self._unsent[name]
            try:
                stored = StoredEntry.from_key(entry.key, app=self.app)
            except KeyError:
                continue  # the entry was deleted
            if stored.last_run_at == at and not stored.is_due()[0]:  # one that is due is sent with the others
                self._unsent[name] = entry, at
                self._send(entry, advance=False)

    def _send(self, entry: RedBeatSchedulerEntry, *, advance: bool) -> None:
        """Send one entry. An entry that cannot be sent at all is logged. Raises BrokerUnavailable."""
        log.info(f"Sending due task {entry.name} ({entry.task})")
        refusal: Exception | None = None
        try:
            with translated_errors():
                self._publish(entry, advance=advance)
        except BrokerUnavailable:
            self._drop_connection()
            raise
        except PlatformError as error:  # its queue is full, for example; the next one does its work
            refusal = error
            log.error(f"Due task {entry.name} refused: {error}")
        except Exception as error:
            refusal = error
            log.exception(f"Due task {entry.name} not sent")
        self._unsent.pop(entry.name, None)
        self._note_refusal(entry, refusal)

    def _note_refusal(self, entry: RedBeatSchedulerEntry, refusal: Exception | None) -> None:
        """Keep with the entry why it was not sent; None: it was sent."""
        client = get_redis(self.app)
        if refusal is None:
            client.hdel(entry.key, REFUSED)
        elif client.hexists(entry.key, "definition"):
            client.hset(entry.key, REFUSED, f"{type(refusal).__name__}: {refusal}"[:MAX_REASON])

    def _publish(self, entry: RedBeatSchedulerEntry, *, advance: bool) -> None:
        try:
            self.apply_async(entry, producer=self.producer, advance=advance)
        except SchedulingError as error:
            raise error.__context__ or error from None

    def _drop_connection(self) -> None:
        """Connect anew at the next try: Celery keeps the channel of a connection that is gone."""
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            connection.collect()

    def _ensure_connected(self) -> Any:
        """Connect. Raises at once if that fails; Celery would try a hundred times and log each."""
        connection: Any = self.app.connection_for_write()
        self.__dict__["connection"] = connection
        return connection.ensure_connection(max_retries=1, interval_start=0)

    def _note_away(self, error: BrokerUnavailable) -> None:
        if self._away_since is None:
            self._away_since = monotonic()
            log.warning(f"The broker is away. Beat goes on when it is back. {error}")

    def _note_back(self) -> None:
        if self._away_since is not None:
            log.warning(f"The broker is back after {monotonic() - self._away_since:.0f} s.")
            self._away_since = None
