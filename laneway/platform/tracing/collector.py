"""What the processes of a worker know of the collector: whether it is away, and when that was logged last.

A worker and its pool processes share these times. So a process that ends does not wait for a collector that another
one has found away, and many short-lived processes together log once a minute.
"""

from __future__ import annotations

import logging
import mmap
import struct
from time import monotonic
from typing import Final

from laneway.platform.logging import logger

log = logger(__name__)

LOG_SECONDS: Final = 60.0
"""Seconds between two log lines about a collector that does not take spans."""
AWAY_SECONDS: Final = 60.0
"""Seconds for which a collector counts as away after a failure."""
EXPORTERS_LOG: Final = "opentelemetry.exporter.otlp"
_TIME: Final = struct.Struct("=d")
_FAILED, _LOGGED = 0, _TIME.size


class Collector:
    """The state of the collector, in memory that a process shares with those that it forks."""

    def __init__(self, address: str) -> None:
        self._address, self._lost = address, 0
        self._times = mmap.mmap(-1, 2 * _TIME.size)  # anonymous and shared: made before the fork
        self._last_words = LastWords()

    @property
    def is_away(self) -> bool:
        """Whether it has failed lately, and has not taken anything since."""
        failed = self._read(_FAILED)
        return failed > 0 and monotonic() - failed < AWAY_SECONDS

    def note_success(self) -> None:
        """Note that it has taken spans."""
        self._write(_FAILED, 0.0)

    def note_failure(self) -> None:
        """Note that it did not take spans."""
        self._write(_FAILED, monotonic())

    def note_lost(self, spans: int, reason: str = "") -> None:
        """Count spans that are lost, and log it if the last line about it is old enough."""
        self._lost += spans
        now, logged = monotonic(), self._read(_LOGGED)
        if logged and now - logged < LOG_SECONDS:
            return
        self._write(_LOGGED, now)
        lost, self._lost = self._lost, 0
        why = reason or self._last_words.text or "it did not answer in time"
        log.warning("spans are lost: the collector does not take them", collector=self._address, spans=lost, reason=why)

    def _read(self, offset: int) -> float:
        return _TIME.unpack_from(self._times, offset)[0]

    def _write(self, offset: int, time: float) -> None:
        _TIME.pack_into(self._times, offset, time)


class LastWords(logging.Handler):
    """Keeps the last log line of the exporter, which says why it failed, instead of writing each one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        exporters = logging.getLogger(EXPORTERS_LOG)
        exporters.handlers, exporters.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        self.text = record.getMessage()[:500]
