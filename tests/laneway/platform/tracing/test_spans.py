"""Spans of one process: what belongs to which trace, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from secrets import token_bytes

import pytest
from opentelemetry import trace

from laneway.platform import tracing
from laneway.platform.db.session import Database
from laneway.platform.errors import UpstreamError
from laneway.platform.execution.outcomes import AttemptResult, Raised
from laneway.platform.registry import registry
from laneway.platform.settings.tracing import TracingSettings
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.platform.tracing.carrier import CARRIER
from laneway.platform.tracing.spans import Spans
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec
from tests.fixtures.span_collector import CollectedSpan, SpanCollector

NAME = "process_conversation_message_task"


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.fixture
def spans(span_collector: SpanCollector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Traces that are on in this process."""
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _provider: None)  # it can be set once in a process
    tracing.start(TracingSettings(_env_file=None, endpoint=span_collector.url))  # pyright: ignore[reportCallIssue]
    assert tracing.active is not None
    yield tracing.active
    tracing.stop()


@pytest.fixture
def sent(spans: Spans, span_collector: SpanCollector) -> Callable[[], dict[str, CollectedSpan]]:
    """Turns traces off and returns what was sent, by name."""

    def collect() -> dict[str, CollectedSpan]:
        tracing.stop()
        return {span.name: span for span in span_collector.spans}

    return collect


def test_a_submission_begins_a_trace_that_the_status_shows(
    platform: Platform, sent: Callable[[], dict[str, CollectedSpan]]
) -> None:
    id = platform.message(text="hunter2")

    submit, publish = (sent()[f"{verb} {NAME}"] for verb in ("submit", "publish"))

    assert (submit.parent, publish.parent, publish.trace_id) == ("", submit.id, submit.trace_id)
    assert platform.tasks.status(id).trace_id == submit.trace_id
    assert publish.attributes == {
        "messaging.system": "laneway",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "conversations",
        "messaging.message.id": id,
        "laneway.task.name": NAME,
    }
    assert "hunter2" not in f"{submit} {publish}"


def test_the_tasks_of_a_batch_belong_to_the_span_that_submits_them(
    platform: Platform, spans: Spans, span_collector: SpanCollector
) -> None:
    payload = {"conversation_id": "c-1", "message": "Hello"}
    with trace.use_span(spans.provider.get_tracer("test").start_span("batch"), end_on_exit=True):
        handles = platform.tasks.submit_many([Submission(NAME, payload, SubmitOptions()) for _ in range(3)])
    tracing.stop()

    (batch,) = span_collector.named("batch")
    published = span_collector.named(f"publish {NAME}")
    assert [span.attributes["messaging.message.id"] for span in published] == [each.task_id for each in handles]
    assert {(span.parent, span.links) for span in published} == {(batch.id, ())}


def test_a_failed_attempt_says_why_without_secrets(
    platform: Platform, spans: Spans, sent: Callable[[], dict[str, CollectedSpan]]
) -> None:
    platform.message(text="hunter2")
    attempt = platform.start()
    span = spans.attempt(attempt, {"traceparent": ["no text"]})
    outcome = Raised(UpstreamError("https://shop.example/?token=hunter2-hunter2-hunter2", "it answered 500"))
    result = platform.attempts.policy.decide(attempt, outcome)
    assert platform.attempts.finish(attempt, result)
    span.end(result)

    ended = sent()[f"process {NAME}"]
    assert (ended.failed, ended.parent, ended.attributes["laneway.task.state"]) == (True, "", "scheduled")
    assert "https://shop.example/?token=[redacted]" in ended.message
    assert "hunter2" not in str(ended)


def test_an_attempt_that_lost_its_lease_says_so_and_a_snooze_is_no_failure(
    platform: Platform, spans: Spans, span_collector: SpanCollector
) -> None:
    platform.message()
    attempt = platform.start()
    spans.attempt(attempt, None).end(None)
    attempt.call = token_bytes(8)
    spans.attempt(attempt, None).end(AttemptResult(TaskState.SCHEDULED, counted=False))
    tracing.stop()

    lost, snoozed = span_collector.named(f"process {NAME}")
    assert (lost.failed, lost.attributes["error.type"]) == (True, "LeaseLost")
    assert not snoozed.failed
    assert lost.trace_id == snoozed.trace_id, "that of the task's id"


def test_a_task_without_a_trace_that_is_sent_again_stays_in_the_trace_of_its_id(
    platform: Platform, span_collector: SpanCollector, spans: Spans
) -> None:
    run = platform.row(platform.message())
    run.options = {}
    spans.publish(run).end()
    spans.attempt(platform.start(), None).end(AttemptResult(TaskState.COMPLETED))
    tracing.stop()

    _, again = span_collector.named(f"publish {NAME}")
    (attempt,) = span_collector.named(f"process {NAME}")
    assert (again.parent, again.trace_id) == ("", attempt.trace_id)


@pytest.mark.parametrize("is_on", [True, False])
def test_the_on_failure_task_belongs_to_the_trace_of_the_task_that_ended(
    platform: Platform, spans: Spans, span_collector: SpanCollector, monkeypatch: pytest.MonkeyPatch, is_on: bool
) -> None:
    """Also if the process that records the end has no traces."""
    follow_up = replace(registry["health_sweep_task"], name="test_follow_up_task", payload=EndedTask)
    watched = replace(registry["cleanup_old_data_task"], name="test_watched_task", on_failure=follow_up.name)
    for spec in (follow_up, watched):
        register_spec(monkeypatch, spec)
    ended = platform.row(platform.tasks.submit(watched, {}).task_id)
    if not is_on:
        tracing.stop()
    platform.end(platform.start("maintenance"), Raised(ValueError("wrong")))
    platform.recorder.catch_up()
    (submitted,) = [row for row in platform.rows() if row.name == follow_up.name]
    tracing.stop()

    assert submitted.options[CARRIER] == ended.options[CARRIER]
    assert {span.trace_id for span in span_collector.spans} == {ended.options[CARRIER]["traceparent"][3:35]}


def test_an_address_that_cannot_be_read_is_refused_by_who_sends_and_not_by_its_span(spans: Spans) -> None:
    def send(headers: dict[str, str]) -> object:
        raise UpstreamError("http://a:port", str(headers))

    with pytest.raises(UpstreamError):
        spans.post("http://a:port/", {}, send)  # pyright: ignore[reportArgumentType]
