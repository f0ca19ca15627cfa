"""Traces through real processes: an API, prefork workers, and a collector that takes OTLP."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import monotonic

import pytest

from laneway.schemas.task import TaskState
from tests.acceptance.test_workflows import CHAT, until_over
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.receiving import register_receiver
from tests.fixtures.site import Node, Site, running_site
from tests.fixtures.span_collector import CollectedSpan, SpanCollector
from tests.fixtures.tasks_for_tests import FAILING, SNOOZING, STEPPING
from tests.fixtures.waiting import wait_until

MESSAGE = "process_conversation_message_task"
WEBHOOK = "send_webhook_response_task"
QUEUES = "conversations,webhooks,workflows"


@dataclass(frozen=True)
class Traced:
    """An installation whose processes send their spans to a collector."""

    site: Site
    collector: SpanCollector
    api: Node
    worker: Node

    def request(self, path: str, body: dict[str, object]) -> tuple[dict[str, str], str, str]:
        """POST as a caller that has begun a trace; returns the response, the trace and the caller's span."""
        trace_id, span_id = token_hex(16), token_hex(8)
        headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": "shop=1"}
        response = self.site.http.post(path, json=body, headers=headers)
        assert response.status_code < 300, response.text
        return response.json(), trace_id, span_id


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """One installation for the module, with an API and a worker."""
    collector = SpanCollector()
    with running_site(
        tmp_path_factory.mktemp("traced"),
        OUTBOUND_ALLOW_PRIVATE="true",
        TRACING_ENDPOINT=collector.url,
        TRACING_HEADERS="x-key=of the tests",
        OTEL_BSP_SCHEDULE_DELAY="100",
    ) as site:
        worker = site.begin_worker("traced", queues=QUEUES)
        api = site.api()
        site.until_reported(worker)
        yield Traced(site, collector, api, worker)
    collector.close()


def tree(spans: list[CollectedSpan]) -> set[tuple[str, str]]:
    """(name of a span, name of its parent) for all spans; the parent of the first one is empty."""
    names = {span.id: span.name for span in spans}
    return {(span.name, names.get(span.parent, "")) for span in spans}


def whole_trace(traced: Traced, trace_id: str) -> list[CollectedSpan]:
    """The spans of a trace that a request began, as soon as each has its parent; that of an attempt comes last."""

    def without_parent() -> set[str]:
        spans = traced.collector.of_trace(trace_id)
        ids = {span.id for span in spans}
        return {span.name for span in spans if span.parent not in ids} - {"POST /api/chat"}

    try:
        wait_until(lambda: not without_parent(), seconds=20)
    except AssertionError:
        raise AssertionError(f"these belong to nothing: {without_parent()}") from None
    return traced.collector.of_trace(trace_id)


def test_a_request_its_task_the_retry_and_the_webhook_are_one_trace(traced: Traced, http_peer: HttpPeer) -> None:
    register_receiver(traced.site.services.destinations, http_peer.url)
    http_peer.reply_with(HttpReply(500))
    payload = {"url": f"{http_peer.url}/hook?token=hunter2-hunter2-hunter2", "event": "paid", "data": {"name": "Ada"}}
    accepted, trace_id, caller = traced.request("/tasks", {"name": WEBHOOK, "payload": payload})

    run = traced.site.until(accepted["task_id"])
    names = ("POST /tasks", f"publish {WEBHOOK}", *(f"process {WEBHOOK}", "POST") * 2)
    spans = traced.collector.until(*names, trace_id=trace_id)

    assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
    (request,) = [span for span in spans if span.name == "POST /tasks"]
    assert (request.parent, request.kind, request.attributes["http.route"]) == (caller, "SERVER", "/tasks")
    assert tree(spans) == {
        ("POST /tasks", ""),
        (f"submit {WEBHOOK}", "POST /tasks"),
        (f"publish {WEBHOOK}", f"submit {WEBHOOK}"),
        (f"process {WEBHOOK}", f"publish {WEBHOOK}"),
        ("POST", f"process {WEBHOOK}"),
    }
    first, second = sorted((span for span in spans if span.kind == "CONSUMER"), key=lambda span: not span.failed)
    assert (first.links, second.links, second.linked_traces) == ((), (first.id,), (trace_id,))
    assert [span.attributes["laneway.task.attempt"] for span in (first, second)] == [1, 2]
    assert [span.attributes["laneway.task.state"] for span in (first, second)] == ["scheduled", "completed"]
    assert (first.attributes["error.type"], second.attributes.get("error.type")) == ("UpstreamError", None)
    assert second.attributes["messaging.message.id"] == accepted["task_id"]
    posts = {span.parent: span for span in spans if span.kind == "CLIENT"}
    assert [asked.headers["traceparent"] for asked in http_peer.requests] == [
        f"00-{trace_id}-{posts[attempt.id].id}-01" for attempt in (first, second)
    ]
    assert not [asked for asked in http_peer.requests if "tracestate" in asked.headers]
    assert traced.site.get(f"/tasks/{accepted['task_id']}")["trace_id"] == trace_id
    for secret in ("hunter2", "Ada"):
        assert secret not in str(traced.collector.spans)
    assert {headers["x-key"] for headers in traced.collector.headers} == {"of the tests"}
    for node in (traced.api, traced.worker):
        assert f"trace_id={trace_id}" in node.output()


def test_a_workflow_with_all_its_steps_is_one_trace(traced: Traced) -> None:
    accepted, trace_id, _ = traced.request("/api/chat", CHAT)

    run = until_over(traced.site, accepted["workflow_id"])
    wanted = [f"workflow step {step.step}" for step in run.steps if step.state == "ok"]
    traced.collector.until("POST /api/chat", *wanted, trace_id=trace_id)
    spans = whole_trace(traced, trace_id)

    assert len(wanted) > 1
    by_id = {span.id: span for span in spans}
    steps = [span for span in spans if span.name in wanted]
    assert {span.attributes["laneway.workflow.id"] for span in steps} == {accepted["workflow_id"]}
    assert {by_id[span.parent].kind for span in steps} == {"CONSUMER"}


def test_an_attempt_has_a_link_to_the_one_before_after_a_kill_an_error_and_a_snooze(traced: Traced) -> None:
    """The tasks are submitted by a process without traces: each has a trace of its own, whose id is known."""
    site, gate = traced.site, traced.site.gate()
    gate.open()
    killed = site.submit(FAILING, {"times": 1, "how": "kill"})
    failed = site.submit(FAILING, {"times": 2})
    snoozed = site.submit(SNOOZING, {"times": 2})
    stepping = site.submit(STEPPING, {"gate": str(gate)})
    site.until_all_over([killed, failed, snoozed, stepping])

    (after_kill,) = attempts(traced, killed, number=1)
    assert len(after_kill.links) == 1, "to the span that its process could not send"
    assert after_kill.linked_traces == (after_kill.trace_id,)
    for id in (failed, snoozed):
        first, second, third = attempts(traced, id, number=3)
        assert (first.links, second.links, third.links) == ((), (first.id,), (second.id,))
        assert len({span.trace_id for span in (first, second, third)}) == 1
    (attempt,) = attempts(traced, stepping, number=1)
    steps = [span for span in traced.collector.spans if span.parent == attempt.id]
    assert sorted(span.name for span in steps) == ["step first", "step second"]


def attempts(traced: Traced, id: str, *, number: int) -> list[CollectedSpan]:
    """The spans of the attempts of a task, in order, when that many have arrived."""

    def arrived() -> list[CollectedSpan]:
        all_spans = [span for span in list(traced.collector.spans) if span.attributes.get("messaging.message.id") == id]
        found = [span for span in all_spans if span.kind == "CONSUMER"]
        return found if len(found) == number else []

    spans = wait_until(arrived, seconds=20)
    before = {span.links[0]: span for span in spans if span.links}
    ordered = [span for span in spans if not span.links or span.links[0] not in {each.id for each in spans}]
    while len(ordered) < len(spans):
        ordered.append(before[ordered[-1].id])
    return ordered


def test_a_retry_by_hand_belongs_to_the_trace_of_the_task_and_names_the_request_of_the_operator(traced: Traced) -> None:
    accepted, trace_id, _ = traced.request("/conversations/message", {"conversation_id": "again", "message": "Hello"})
    id = accepted["task_id"]
    traced.site.until(id)
    _, of_operator, _ = traced.request(f"/tasks/{id}/retry", {})

    spans = traced.collector.until(*(f"publish {MESSAGE}", f"process {MESSAGE}") * 2, trace_id=trace_id)
    (again,) = [span for span in spans if span.name == f"publish {MESSAGE}" and span.links]

    assert again.linked_traces == (of_operator,)
    assert [span.parent for span in spans if span.kind == "CONSUMER"].count(again.id) == 1
    request = traced.collector.until("POST /tasks/{task_id}/retry", trace_id=of_operator)
    assert again.links == (request[0].id,)


def test_a_trace_survives_the_outbox_while_the_broker_is_away(traced: Traced) -> None:
    traced.site.valkey.kill()
    payload = {"conversation_id": "away", "message": "Hello"}
    accepted, trace_id, _ = traced.request("/tasks", {"name": MESSAGE, "payload": payload})
    assert accepted["state"] == "accepted", accepted
    traced.site.valkey.start()

    assert traced.site.until(accepted["task_id"]).state == TaskState.COMPLETED
    spans = traced.collector.until(f"publish {MESSAGE}", f"process {MESSAGE}", trace_id=trace_id)
    assert ("process " + MESSAGE, "publish " + MESSAGE) in tree(spans)


def test_recycled_children_and_a_stopped_worker_lose_no_span(traced: Traced) -> None:
    """The queue is sent every hour, so a span arrives only because a process ends."""
    ids = [traced.site.submit("cleanup_old_data_task", {}) for _ in range(2)]
    one = ("--max-tasks-per-child", "1")
    node = traced.site.worker("recycling", *one, queues="maintenance", OTEL_BSP_SCHEDULE_DELAY="999999")
    traced.site.until_all_over(ids)

    assert node.stop() == 0
    of_process = {
        span.attributes["messaging.message.id"]: span.process
        for span in traced.collector.named("process cleanup_old_data_task")
    }
    assert of_process.keys() == set(ids)
    assert len(set(of_process.values())) == 2, "each task had a process of its own"


def test_a_collector_that_is_away_delays_nothing_and_is_logged_once(traced: Traced) -> None:
    with HttpPeer() as silent:
        silent.always = HttpReply(200, delay=60)
        one = ("--max-tasks-per-child", "1")
        node = traced.site.worker("alone", *one, queues="analytics", TRACING_ENDPOINT=silent.url)
        began = monotonic()
        ids = [traced.site.submit("generate_performance_report_task", {"hours": 1}) for _ in range(2)]
        runs = traced.site.until_all_over(ids)
        took = monotonic() - began
        node.wait_for_output("spans are lost", seconds=20)
        assert node.stop() == 0

    assert {run.state for run in runs} == {TaskState.COMPLETED}
    assert took < 15
    assert len(re.findall("spans are lost", node.output())) == 1, node.output()
    assert "Traceback" not in node.output()


def test_a_caller_with_a_context_that_is_not_valid_begins_a_trace(traced: Traced) -> None:
    """And it cannot fill the log."""
    bad = ("", "00", "x" * 30_000, f"00-{'0' * 32}-{'b' * 16}-01", f"00-{'A' * 32}-{'b' * 16}-01", "00-\xff-\xff-01")
    before = len(traced.api.output().splitlines())
    ids = list[str]()
    for value in bad:
        headers = {"traceparent": value.encode("latin-1"), "tracestate": b"=" * 600, "baggage": b"," * 9000}
        response = traced.site.http.post("/tasks", json={"name": "cleanup_old_data_task"}, headers=headers)
        assert response.status_code == 202, response.text
        ids.append(response.json()["task_id"])

    traces = {traced.site.get(f"/tasks/{id}")["trace_id"] for id in ids}
    assert len(traces) == len(bad) and None not in traces
    added = traced.api.output().splitlines()[before:]
    assert [line for line in added if "request" not in line and "task accepted" not in line] == []


def test_a_broker_without_the_engine_has_traces_and_links_of_retries(traced: Traced, tmp_path: Path) -> None:
    endpoint = {"TRACING_ENDPOINT": traced.collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running_site(tmp_path, BROKER_TRANSPORT="celery", **endpoint) as site:
        site.worker("stock")
        id = site.submit(FAILING, {"times": 1})
        site.until(id)
        first = wait_until(lambda: of_task(traced, id, "CONSUMER", failed=True), seconds=20)[0]
        (again,) = wait_until(lambda: of_task(traced, id, "PRODUCER"), seconds=20)
        (second,) = wait_until(lambda: of_task(traced, id, "CONSUMER", failed=False), seconds=20)

    assert (again.links, second.parent) == ((first.id,), again.id)
    assert {span.trace_id for span in (first, again, second)} == {first.trace_id}


def of_task(traced: Traced, id: str, kind: str, *, failed: bool = False) -> list[CollectedSpan]:
    """The spans of a task of this kind."""
    found = [span for span in list(traced.collector.spans) if span.attributes.get("messaging.message.id") == id]
    return [span for span in found if (span.kind, span.failed) == (kind, failed)]


def test_the_end_of_the_api_sends_its_last_spans(traced: Traced) -> None:
    assert traced.api.stop() in (0, -signal.SIGTERM)
    api = traced.site.api(OTEL_BSP_SCHEDULE_DELAY="999999")
    _, trace_id, _ = traced.request("/tasks", {"name": "cleanup_old_data_task"})
    assert not traced.collector.of_trace(trace_id)

    api.stop()

    assert {span.name for span in traced.collector.of_trace(trace_id)} >= {
        "POST /tasks",
        "submit cleanup_old_data_task",
    }
