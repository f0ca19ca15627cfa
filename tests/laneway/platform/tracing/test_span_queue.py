"""Spans on their way to the collector: in batches, bounded, and without holding up anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs
from structlog.typing import EventDict

from laneway.platform.errors import ConfigError
from laneway.platform.settings.tracing import TracingSettings
from laneway.platform.tracing import collector as collectors
from laneway.platform.tracing.collector import Collector
from laneway.platform.tracing.provider import make_exporter
from laneway.platform.tracing.span_queue import FLUSH_SECONDS, QueueLimits, SpanQueue
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.span_collector import SpanCollector
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

HOUR = 3600.0
LOST = "spans are lost"


class Sending:
    """A provider whose spans go to an address."""

    def __init__(self, url: str, limits: QueueLimits) -> None:
        settings = TracingSettings(_env_file=None, endpoint=url)  # pyright: ignore[reportCallIssue]
        self.collector = Collector(url)
        self.queue = SpanQueue(make_exporter(settings), self.collector, limits)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.queue)
        self.tracer = self.provider.get_tracer("test")

    def make(self, *names: str) -> None:
        """Begin and end a span of each name."""
        for name in names:
            self.tracer.start_span(name).end()


Make = Callable[..., Sending]


@pytest.fixture
def sending() -> Iterator[Make]:
    """Makes a provider; it is closed at the end."""
    made = list[Sending]()

    def make(url: str, **limits: float) -> Sending:
        made.append(Sending(url, QueueLimits(**limits)))  # pyright: ignore[reportArgumentType]
        return made[-1]

    yield make
    for each in made:
        each.collector.note_failure()  # nobody waits for it
        each.provider.shutdown()


def test_spans_are_sent_together_after_a_while(sending: Make, span_collector: SpanCollector) -> None:
    sending(span_collector.url, delay=0.1).make("a", "b", "c")
    span_collector.until("a", "b", "c")
    assert len(span_collector.requests) == 1


def test_a_full_batch_does_not_wait(sending: Make, span_collector: SpanCollector) -> None:
    sending(span_collector.url, delay=HOUR, batch=2).make("a", "b", "c")
    span_collector.until("a", "b")
    assert not span_collector.named("c")


def test_the_end_sends_what_waits(sending: Make, span_collector: SpanCollector) -> None:
    sent = sending(span_collector.url, delay=HOUR)
    sent.make("a", "b")
    sent.provider.shutdown()
    assert [span.name for span in span_collector.spans] == ["a", "b"]
    sent.make("late")
    assert len(span_collector.spans) == 2


def test_a_flush_sends_what_waits_and_the_queue_goes_on(sending: Make, span_collector: SpanCollector) -> None:
    sent = sending(span_collector.url, delay=HOUR)
    sent.make("a")
    assert sent.provider.force_flush()
    assert span_collector.named("a")
    sent.make("b")
    assert sent.provider.force_flush()
    assert span_collector.named("b")


def test_the_end_waits_for_a_silent_collector_for_a_limited_time_and_the_next_end_not_at_all(
    sending: Make, http_peer: HttpPeer
) -> None:
    http_peer.always = HttpReply(200, delay=60)
    first = sending(http_peer.url, delay=HOUR)
    first.make("a", "b")
    began = monotonic()
    with capture_logs() as lines:
        first.provider.shutdown()
    assert FLUSH_SECONDS <= monotonic() - began < FLUSH_SECONDS + 2
    assert first.collector.is_away
    assert [line["spans"] for line in lost(lines)] == [2]

    again = SpanQueue(make_exporter(settings_of(http_peer.url)), first.collector, QueueLimits(delay=HOUR))
    again.on_end(span_of(first))
    began = monotonic()
    again.shutdown()
    assert monotonic() - began < 0.5


def settings_of(url: str) -> TracingSettings:
    return TracingSettings(_env_file=None, endpoint=url)  # pyright: ignore[reportCallIssue]


def span_of(sent: Sending) -> object:
    span = sent.tracer.start_span("one")
    span.end()
    return span


def test_a_collector_that_refuses_is_logged_once_and_what_waits_is_bounded(
    sending: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    sent = sending(f"http://127.0.0.1:{free_port()}", size=10, batch=5, delay=0.05)
    with capture_logs() as lines:
        began = monotonic()
        sent.make(*("x" for _ in range(2000)))
        assert monotonic() - began < 2, "nobody waits for the collector"
        assert sent.queue.waiting <= 10
        wait_until(lambda: sent.collector.is_away, seconds=10)
        sent.make(*("x" for _ in range(20)))
        wait_until(lambda: not sent.queue.waiting, seconds=10)
        assert len(lost(lines)) == 1
        monkeypatch.setattr(collectors, "LOG_SECONDS", 0.0)
        sent.make("x")
        wait_until(lambda: len(lost(lines)) > 1, seconds=10)
    assert lost(lines)[1]["spans"] > 1900, "the lines between were counted"
    assert "Failed to export" in lost(lines)[1]["reason"]
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def lost(lines: list[EventDict]) -> list[EventDict]:
    return [line for line in lines if LOST in line["event"]]


def test_a_collector_that_comes_back_gets_the_next_spans(sending: Make, http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(400))
    sent = sending(http_peer.url, delay=0.02)
    sent.make("a")
    wait_until(lambda: sent.collector.is_away, seconds=10)
    sent.make("b")
    wait_until(lambda: not sent.collector.is_away, seconds=10)
    assert len(http_peer.requests) == 2


def test_the_values_of_a_query_are_hidden(sending: Make, span_collector: SpanCollector) -> None:
    sent = sending(span_collector.url, delay=0.02)
    query = {"url.query": "code=hunter2&state=s%C3%A9cret&empty=&flag"}
    sent.tracer.start_span("GET /login", kind=SpanKind.SERVER, attributes=query).end()
    (span,) = span_collector.until("GET /login")
    assert span.attributes["url.query"] == "code=REDACTED&state=REDACTED&empty=REDACTED&flag=REDACTED"


@pytest.mark.parametrize("name", ["MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "9" * 100])
def test_a_limit_that_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"OTEL_BSP_{name}"):
        QueueLimits.from_environment({f"OTEL_BSP_{name}": value})


def test_limits_are_read_from_the_standard_variables() -> None:
    given = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_SCHEDULE_DELAY": "250"}
    assert QueueLimits.from_environment(given) == QueueLimits(100, 100, 0.25)
    with pytest.raises(ConfigError, match="must not be larger"):
        QueueLimits.from_environment({**given, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "101"})
