"""Sends ended spans to the collector, in batches, from a thread of its own.

It stands in for the SDK's `BatchSpanProcessor`, with three differences:

1. It does nothing at a fork. The SDK's processor starts its thread anew in every forked process, and a child that
   confines itself must not have threads.
2. It takes no lock when a span ends. A task can be interrupted between any two instructions (`TaskCancelled`), and a
   lock that all spans share and that is never released would stop the process.
3. `flush` has a deadline.

It is bounded: spans beyond the size of the queue are dropped and counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread, get_ident
from time import monotonic
from typing import Final
from urllib.parse import parse_qsl, urlencode

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from laneway.platform.errors import ConfigError
from laneway.platform.tracing.collector import Collector

FLUSH_SECONDS: Final = 2.0
"""The most seconds that the end of a process waits for its spans to be sent."""
HIDDEN: Final = "REDACTED"
QUERY: Final = "url.query"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many spans wait, and how they are sent."""

    size: int = 2048
    batch: int = 512
    delay: float = 1.0
    """Seconds for which a span waits for others, so that they are sent together."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> QueueLimits:
        """The standard variables of batch processors, where they are set. Raises ConfigError."""
        usual = cls()
        size = _number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", usual.size)
        batch = _number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(usual.batch, size))
        delay = _number(environment, "OTEL_BSP_SCHEDULE_DELAY", round(usual.delay * 1000))
        if batch > size:
            raise ConfigError("OTEL_BSP_MAX_EXPORT_BATCH_SIZE must not be larger than OTEL_BSP_MAX_QUEUE_SIZE")
        return cls(size, batch, delay / 1000)


@dataclass(frozen=True, slots=True)
class _Flush:
    """Stands in the queue behind the spans that are to be sent at once."""

    done: Event = field(default_factory=Event)
    is_last: bool = False


class SpanQueue(SpanProcessor):
    """The queue of one process."""

    def __init__(self, exporter: SpanExporter, collector: Collector, limits: QueueLimits) -> None:
        self._exporter, self._collector, self._limits = exporter, collector, limits
        self._waiting: SimpleQueue[ReadableSpan | _Flush] = SimpleQueue()
        self._closed, self._sending = False, 0
        self._thread = Thread(target=self._run, name="laneway-spans", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of spans that wait."""
        return self._waiting.qsize()

    def on_start(self, span: Span, parent_context: object = None) -> None:
        """Hide the values of a query: it may contain codes of logins, and texts of customers."""
        del parent_context
        query = (span.attributes or {}).get(QUERY)
        if isinstance(query, str):
            names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
            span.set_attribute(QUERY, urlencode([(name, HIDDEN) for name in names]))

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that is recorded, if there is room. Spans of the sending itself are dropped: they never end."""
        context = span.context
        if self._closed or context is None or not context.trace_flags.sampled or get_ident() == self._thread.ident:
            return
        if self._waiting.qsize() >= self._limits.size:
            self._collector.note_lost(1, "more spans than OTEL_BSP_MAX_QUEUE_SIZE wait to be sent")
        else:
            self._waiting.put(span)

    def force_flush(self, timeout_millis: int = round(FLUSH_SECONDS * 1000)) -> bool:
        """Send what waits. It returns False after the time, and at once if the collector is away."""
        return self._flush(_Flush(), timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what waits, and take no more spans."""
        if self._closed:
            return
        self._closed = True
        if not self._flush(_Flush(is_last=True), FLUSH_SECONDS):
            self._give_up()
        self._exporter.shutdown()

    def _give_up(self) -> None:
        """Drop what could not be sent in time."""
        lost = self._sending
        with suppress(Empty):
            while True:
                lost += isinstance(self._waiting.get_nowait(), ReadableSpan)
        if lost:
            self._collector.note_failure()
            self._collector.note_lost(lost)

    def _flush(self, flush: _Flush, seconds: float) -> bool:
        self._waiting.put(flush)
        return flush.done.wait(0 if self._collector.is_away else seconds)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch, flush = self._next_batch()
            self._export(batch)
            if flush is not None:
                flush.done.set()
                is_last = flush.is_last

    def _next_batch(self) -> tuple[list[ReadableSpan], _Flush | None]:
        """Wait for a span, and for those that end soon after it."""
        batch = list[ReadableSpan]()
        deadline: float | None = None
        while len(batch) < self._limits.batch:
            try:
                found = self._waiting.get(timeout=None if deadline is None else max(0.0, deadline - monotonic()))
            except Empty:
                break
            if isinstance(found, _Flush):
                return batch, found
            batch.append(found)
            deadline = deadline or monotonic() + self._limits.delay
        return batch, None

    def _export(self, batch: list[ReadableSpan]) -> None:
        if not batch:
            return
        self._sending = len(batch)
        try:
            is_sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - nothing that happens here may end the thread
            is_sent = False
            self._collector.note_lost(0, f"{type(error).__name__}: {error}")
        if is_sent:
            self._collector.note_success()
        else:
            self._collector.note_failure()
            self._collector.note_lost(len(batch))
        self._sending = 0


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) <= 1_000_000:
        raise ConfigError(f"{name} must be a whole number from 1 to 1000000, not {text[:40]!r}")
    return int(text)
