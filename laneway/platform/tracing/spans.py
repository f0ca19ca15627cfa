"""The spans of a platform, with the names of OpenTelemetry's conventions for messaging and HTTP.

    request (FastAPI) ─► submit ─► publish ─► process (an attempt) ─► step, workflow step, POST of a webhook
                                                 └ submit …

A message carries the context of the span that published it. Each attempt is a child of that span, and has a link to
the attempt before it: a retry, a redelivery after a crash, a run after a snooze. A span has ids and names, and never a
payload or a result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from laneway._masking import masked
from laneway.platform.db.models import TaskRun
from laneway.platform.execution.outcomes import Attempt, AttemptResult
from laneway.platform.logging import bind, without_secrets
from laneway.platform.tracing.carrier import PARENT, carrier_of, checked
from laneway.platform.tracing.provider import ProcessProvider, with_ids
from laneway.platform.webhooks.egress import HttpResponse, display_url
from laneway.schemas.task import FAILURES, TaskState

SYSTEM: Final = "laneway"
"""The value of `messaging.system`."""
LONGEST_TEXT: Final = 500
"""Characters of an error."""
_W3C: Final = TraceContextTextMapPropagator()


class Spans:
    """Makes the spans of a process."""

    def __init__(self, provider: ProcessProvider) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("laneway")

    def close(self) -> None:
        """Send the spans that have ended, within a limited time, and take no more."""
        self.provider.close()

    def trace_id(self) -> str | None:
        """The id of the current trace; None outside of one."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def current(self) -> dict[str, str]:
        """The context of the current span, as headers; empty outside of one."""
        headers: dict[str, str] = {}
        _W3C.inject(headers)
        return headers

    # --- sending

    @contextmanager
    def submission(self, name: str) -> Generator[None]:
        """The acceptance of one task."""
        with self._current(f"submit {name}", attributes={"laneway.task.name": name}):
            yield

    def carrier(self, name: str) -> dict[str, str]:
        """The context that a new row gets: that of the current span, or of a new trace."""
        if headers := self.current():
            return headers
        span = self._tracer.start_span(f"submit {name}", attributes={"laneway.task.name": name})
        _W3C.inject(headers, trace.set_span_in_context(span))
        span.end()
        return headers

    @contextmanager
    def within(self, options: Mapping[str, Any]) -> Generator[None]:
        """What is submitted in this block belongs to the trace of a row with these options."""
        token = contexts.attach(_parent(carrier_of(options)))
        try:
            yield
        finally:
            contexts.detach(token)

    def publish(self, run: TaskRun) -> Publication:
        """The way of one message to the broker. It belongs to the trace of the row, whoever sends it.

        A message that is sent again (a retry by hand, or without the engine) has a link to the span that sends it.
        """
        parent, sender = _parent(carrier_of(run.options)), trace.get_current_span().get_span_context()
        known = trace.get_current_span(parent).get_span_context()
        is_sent_again = run.published_at != run.accepted_at and sender.is_valid and sender.span_id != known.span_id
        with with_ids(trace_id=_own_trace(run.id)):
            span = self._tracer.start_span(
                f"publish {run.name}",
                context=parent,
                kind=SpanKind.PRODUCER,
                attributes=_messaging("publish", "send", run.name, id=run.id, queue=run.queue),
                links=[Link(sender)] if is_sent_again else (),
            )
        return Publication(span)

    # --- running

    def attempt(self, attempt: Attempt, headers: object) -> AttemptSpan:
        """Begin the span of an attempt; it is the current one until its end. The log lines get the id of its trace.

        The span's id is the id of the call that started the attempt, which the engine keeps with the message. So the
        next attempt can name it, also after a crash.
        """
        parent = _parent(checked(headers))
        known, own_trace = trace.get_current_span(parent).get_span_context(), _own_trace(attempt.task_id)
        trace_id = known.trace_id if known.is_valid else own_trace
        attributes = _messaging("process", "process", attempt.name, id=attempt.task_id, queue=attempt.queue)
        attributes |= {"laneway.task.attempt": attempt.number, "messaging.client.id": attempt.worker}
        with with_ids(trace_id=own_trace, span_id=_span_id(attempt.call)):
            span = self._tracer.start_span(
                f"process {attempt.name}",
                context=parent,
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=_links(trace_id, attempt.previous_call),
            )
        return AttemptSpan(span)

    def traced(
        self, name: str, work: Callable[..., Any], *, attributes: Mapping[str, str | int] | None = None
    ) -> Callable[..., Any]:
        """A function that calls `work` within a span."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._current(without_secrets(name), attributes=attributes):
                return work(*args, **kwargs)

        return call

    def post(self, url: str, headers: dict[str, str], send: Callable[..., HttpResponse]) -> HttpResponse:
        """Send a POST within a span, with its context as a header; `send` gets the headers.

        The receiver belongs to somebody else, so it does not get the `tracestate`, which is for parties of the trace.
        """
        with self._current("POST", kind=SpanKind.CLIENT, attributes=_post(url)) as span:
            own = {name: value for name, value in self.current().items() if name == PARENT}
            response = send(headers=headers | own)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= 400:
                span.set_attribute("error.type", str(response.status))
                span.set_status(StatusCode.ERROR)
            return response

    @contextmanager
    def _current(
        self, name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, str | int] | None = None
    ) -> Generator[Span]:
        """A span that is the current one in this block. It says whether the block has failed."""
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                _set_error(span, type(error).__name__, str(error))
                raise


class Publication:
    """The span of a message on its way to the broker."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        """What the message carries."""
        _W3C.inject(self.headers, trace.set_span_in_context(span))

    def end(self) -> None:
        """The broker has the message. A span that does not end is not sent: a later one will tell of the message."""
        self._span.end()


class AttemptSpan:
    """The span of a running attempt."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token = contexts.attach(trace.set_span_in_context(span))
        bind(trace_id=trace.format_trace_id(span.get_span_context().trace_id))

    def end(self, result: AttemptResult | None, *, problem: str = "") -> None:
        """End it with what follows from the attempt. None: its outcome was not stored, because of `problem`."""
        state = result.state if result is not None else "lost its lease"
        self._span.set_attribute("laneway.task.state", str(state))
        if result is None:
            _set_error(self._span, "LeaseLost" if not problem else "NotStored", problem)
        elif result.state in FAILURES or (result.state is TaskState.SCHEDULED and result.counted):
            _set_error(self._span, result.error_type or str(result.state), result.error or "")
        contexts.detach(self._token)
        self._span.end()


def _messaging(name: str, kind: str, task: str, *, id: str, queue: str) -> dict[str, str | int]:
    """Attributes of the conventions for messaging."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": queue,
        "messaging.message.id": id,
        "laneway.task.name": task,
    }


def _post(url: str) -> dict[str, str | int]:
    """Attributes of the conventions for clients of HTTP. An address that cannot be read is refused by who sends."""
    attributes: dict[str, str | int] = {"http.request.method": "POST"}
    with suppress(ValueError):
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        attributes |= {
            "server.address": parts.hostname or "",
            "server.port": port,
            "url.full": masked(display_url(url)),
        }
    return attributes


def _parent(headers: dict[str, str]) -> contexts.Context:
    """The context that headers describe. Without them it is empty: the current span is no parent."""
    return _W3C.extract(headers, contexts.Context())


def _own_trace(task_id: str) -> int:
    """The id of the trace of a task that was sent without one: all its attempts are in it."""
    return int.from_bytes(sha256(task_id.encode()).digest()[:16], "big")


def _span_id(call: bytes) -> int | None:
    return int.from_bytes(call, "big") if len(call) == 8 else None


def _links(trace_id: int, previous_call: bytes) -> Sequence[Link]:
    span_id = _span_id(previous_call)
    if not span_id:
        return ()
    flags = TraceFlags(TraceFlags.SAMPLED)
    return (Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)),)


def _set_error(span: Span, kind: str, text: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR, str(without_secrets(text))[:LONGEST_TEXT] or None)
