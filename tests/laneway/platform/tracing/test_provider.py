"""Tracers of a process and of those that it forks, and the standard variables of OpenTelemetry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace

from laneway.platform.errors import ConfigError
from laneway.platform.settings.tracing import TracingSettings
from laneway.platform.tracing.provider import ProcessProvider, with_ids
from tests.fixtures.forking import run_in_child
from tests.fixtures.span_collector import SpanCollector

Make = Callable[..., ProcessProvider]
SET_PROVIDER = trace.set_tracer_provider


@pytest.fixture
def make(span_collector: SpanCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a provider with further settings; it is closed at the end."""
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _provider: None)  # it can be set once in a process
    made = list[ProcessProvider]()

    def make_provider(**values: object) -> ProcessProvider:
        settings = TracingSettings(_env_file=None, endpoint=span_collector.url, **values)  # pyright: ignore
        made.append(ProcessProvider(settings))
        return made[-1]

    yield make_provider
    for each in made:
        each.close()


def test_a_tracer_works_in_forked_processes_each_of_which_sends_its_own_spans(
    make: Make, span_collector: SpanCollector
) -> None:
    provider = make()
    tracer = provider.get_tracer("test")
    tracer.start_span("parent").end()

    def work() -> None:
        tracer.start_span("child").end()
        provider.close()

    run_in_child(work)
    run_in_child(work)
    provider.close()

    assert sorted(span.name for span in span_collector.spans) == ["child", "child", "parent"]
    processes = {span.process for span in span_collector.named("child")}
    assert len(processes) == 2 and os.getpid() not in processes


def test_the_spans_of_a_programs_own_code_are_sent_too(make: Make, span_collector: SpanCollector) -> None:
    """In a fork, because the provider of a process can be set once."""
    settings = TracingSettings(_env_file=None, endpoint=span_collector.url)  # pyright: ignore[reportCallIssue]
    tracer = trace.get_tracer("shop")  # as a module does that is imported before traces begin

    def work() -> None:
        trace.set_tracer_provider = SET_PROVIDER
        provider = ProcessProvider(settings)
        with provider.get_tracer("laneway").start_as_current_span("attempt"), tracer.start_as_current_span("own"):
            pass
        provider.close()

    run_in_child(work)
    (attempt,), (own,) = span_collector.named("attempt"), span_collector.named("own")
    assert own.parent == attempt.id


def test_a_forked_process_has_no_thread_before_its_first_span(make: Make) -> None:
    """A child that confines itself may have one thread only."""
    make().get_tracer("test").start_span("parent").end()

    def count_threads() -> None:
        assert len(list(Path("/proc/self/task").iterdir())) == 1

    run_in_child(count_threads)


@pytest.mark.parametrize(("sample", "number"), [(0.0, 0), (1.0, 20)])
def test_the_share_decides_about_traces_that_begin_here(
    make: Make, span_collector: SpanCollector, sample: float, number: int
) -> None:
    provider = make(sample=sample)
    for _ in range(20):
        provider.get_tracer("test").start_span("one").end()
    provider.close()
    assert len(span_collector.spans) == number


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "allways_on"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "few"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ],
)
def test_a_standard_variable_that_cannot_be_used_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"OTEL_.*") as refused:
        make()
    assert value in str(refused.value)


def test_standard_variables_are_respected(
    make: Make, span_collector: SpanCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=7")
    provider = make()
    provider.get_tracer("test").start_span("one", attributes={"long": "x" * 5000}).end()
    provider.close()

    (span,), (headers,) = span_collector.spans, span_collector.headers
    assert (span.service, headers["content-encoding"], headers["x-tenant"]) == ("shop", "gzip", "7")
    assert len(span.attributes["long"]) == 1024


def test_a_span_gets_the_ids_that_others_know(make: Make, span_collector: SpanCollector) -> None:
    provider = make()
    with with_ids(trace_id=17, span_id=4711):
        provider.get_tracer("test").start_span("known").end()
    provider.get_tracer("test").start_span("other").end()
    provider.close()
    (known,), (other,) = span_collector.named("known"), span_collector.named("other")
    assert (int(known.trace_id, 16), int(known.id, 16)) == (17, 4711)
    assert int(other.trace_id, 16) != 17
