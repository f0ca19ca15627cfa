"""Makes OpenTelemetry's provider of spans in each process that needs one, and not before a fork.

A provider has a thread and a connection to the collector, which a forked process must not share. So tracers are handed
out at once, and ask for the provider of their process when they begin a span.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from laneway._masking import masked
from laneway.platform.errors import ConfigError
from laneway.platform.settings.tracing import TracingSettings
from laneway.platform.tracing.collector import EXPORTERS_LOG, Collector
from laneway.platform.tracing.span_queue import QueueLimits, SpanQueue

SERVICE: Final = "laneway"
"""The name of the service, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has another one."""
LONGEST_ATTRIBUTE: Final = 1024
"""Characters of an attribute, unless OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT says otherwise."""
ABOUT_CALLERS: Final = ("opentelemetry.trace", "opentelemetry.baggage", "opentelemetry.propagate")
"""Loggers that write a warning for each header of a caller that is not valid."""


def is_disabled() -> bool:
    """Whether OpenTelemetry's own switch is set."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


@dataclass(frozen=True, slots=True)
class _Made:
    """The provider of one process."""

    pid: int
    provider: TracerProvider


class ProcessProvider(trace.TracerProvider):
    """The provider of the current process, whichever that is."""

    def __init__(self, settings: TracingSettings) -> None:
        """Raises ConfigError for a standard variable of OpenTelemetry with a value that cannot be used."""
        self._settings, self._limits = settings, QueueLimits.from_environment()
        self._made: _Made | None = None
        self._locks: dict[int, Lock] = {}
        with _warnings_refused():
            _provider(settings).shutdown()
            make_exporter(settings).shutdown()
        for name in ABOUT_CALLERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._collector = Collector(masked(settings.traces_url or ""))
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one
            trace.set_tracer_provider(self)  # the spans of a program's own code belong to the same traces

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        """A tracer for all processes."""
        return ProcessTracer(self, (instrumenting_module_name, instrumenting_library_version, schema_url, attributes))

    @property
    def of_process(self) -> TracerProvider:
        """The SDK's provider of this process, which is made at its first use."""
        made, pid = self._made, os.getpid()
        return made.provider if made is not None and made.pid == pid else self._make(pid)

    def close(self) -> None:
        """Send the spans of this process, within a limited time, and take no more."""
        if self._made is not None and self._made.pid == os.getpid():
            self._made.provider.shutdown()

    def _make(self, pid: int) -> TracerProvider:
        with self._locks.setdefault(pid, Lock()):  # the lock of the parent may have been held during the fork
            if self._made is None or self._made.pid != pid:
                provider = _provider(self._settings)
                queue = SpanQueue(make_exporter(self._settings), self._collector, self._limits)
                provider.add_span_processor(queue)
                self._made = _Made(pid, provider)
            return self._made.provider


class ProcessTracer(trace.Tracer):
    """Begins spans with the provider of the current process."""

    def __init__(self, provider: ProcessProvider, scope: tuple[Any, ...]) -> None:
        self._provider, self._scope = provider, scope
        self._known: tuple[TracerProvider, trace.Tracer] | None = None

    def start_span(self, *args: Any, **options: Any) -> trace.Span:
        """As the SDK's tracer."""
        return self._tracer.start_span(*args, **options)

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:
        """As the SDK's tracer."""
        return self._tracer.start_as_current_span(*args, **options)

    @property
    def _tracer(self) -> trace.Tracer:
        provider, known = self._provider.of_process, self._known
        if known is None or known[0] is not provider:
            known = self._known = provider, provider.get_tracer(*self._scope)
        return known[1]


_given: ContextVar[tuple[int | None, int | None]] = ContextVar("laneway_span_ids", default=(None, None))


class GivenIds(RandomIdGenerator):
    """Random ids, but for spans whose ids others must be able to name (`with_ids`)."""

    def generate_span_id(self) -> int:
        return _given.get()[1] or super().generate_span_id()

    def generate_trace_id(self) -> int:
        return _given.get()[0] or super().generate_trace_id()


@contextmanager
def with_ids(*, trace_id: int | None = None, span_id: int | None = None) -> Generator[None]:
    """A span that begins in this block gets these ids. A parent's trace goes before `trace_id`. None: by chance."""
    token = _given.set((trace_id, span_id))
    try:
        yield
    finally:
        _given.reset(token)


def _provider(settings: TracingSettings) -> TracerProvider:
    given = os.environ.get
    has_name = given("OTEL_SERVICE_NAME") or "service.name=" in given("OTEL_RESOURCE_ATTRIBUTES", "")
    has_limit = given("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT") or given("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    return TracerProvider(
        sampler=_sampler(settings),
        resource=Resource.create({"process.pid": os.getpid(), **({} if has_name else {"service.name": SERVICE})}),
        shutdown_on_exit=False,
        id_generator=GivenIds(),
        span_limits=SpanLimits() if has_limit else SpanLimits(max_attribute_length=LONGEST_ATTRIBUTE),
    )


def _sampler(settings: TracingSettings) -> Sampler | None:
    """None: the SDK reads its own variables."""
    return None if settings.sample is None else ParentBased(TraceIdRatioBased(settings.sample))


def make_exporter(settings: TracingSettings) -> OTLPSpanExporter:
    """What encodes spans and sends them."""
    return OTLPSpanExporter(endpoint=settings.traces_url, headers=settings.header_values)


@contextmanager
def _warnings_refused() -> Generator[None]:
    """Raise ConfigError for what OpenTelemetry only warns of: a variable with a value that it cannot use."""
    heard = _Heard()
    listening = [logging.getLogger("opentelemetry"), logging.getLogger(EXPORTERS_LOG)]
    for each in listening:
        each.addHandler(heard)
    try:
        yield
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        raise ConfigError(f"A variable of OpenTelemetry (OTEL_…) cannot be used: {error}") from error
    finally:
        for each in listening:
            each.removeHandler(heard)
    if heard.texts:
        raise ConfigError(
            f"A variable of OpenTelemetry (OTEL_…) cannot be used: {' '.join(dict.fromkeys(heard.texts))}"
        )


class _Heard(logging.Handler):
    """Collects warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
