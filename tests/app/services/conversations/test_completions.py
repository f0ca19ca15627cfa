"""Responses of compatible servers against a real local one: thoughts of models, odd forms, errors, and bounds."""

from __future__ import annotations

import gzip
import json
import time
import traceback
from typing import Any

import pytest

from app.services.conversations.responders.endpoint_http import MAX_BODY
from laneway.platform.errors import UpstreamError, UpstreamRefused
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.model_endpoint import KEY, QUICK, answer, failed

# Thoughts of a model


SECRET = "The customer seems angry [2]"
WITH_THOUGHTS = {
    "a thought": f"<think>{SECRET}</think>\n\nWithin 30 days. [1]",
    "another name": f"<thinking>{SECRET}</thinking>Within 30 days. [1]",
    "attributes and capitals": f'<THINK mode="slow">{SECRET}</ think >Within 30 days. [1]',
    "a namespace": f"<seed:think>{SECRET}</seed:think>Within 30 days. [1]",
    "only its end": f"{SECRET}\n</think>\nWithin 30 days. [1]",
    "several": f"<think>{SECRET}</think><think>{SECRET}</think>Within <think>{SECRET}</think>30 days. [1]",
    "one in another": f"<think>{SECRET}<think>{SECRET}</think>{SECRET}</think>Within 30 days. [1]",
    "one after the answer": f"Within 30 days. [1]\n<think>{SECRET}",
    "brackets": f"[THINK]{SECRET}[/THINK]Within 30 days. [1]",
    "triangles": f"◁think▷{SECRET}◁/think▷Within 30 days. [1]",
    "a begun mark": "Within 30 days. [1] <think",
    "channels": f"<|channel|>analysis<|message|>{SECRET}<|end|><|start|>assistant<|channel|>final<|message|>"
    "Within 30 days. [1]<|return|>",
    "channels without marks": f"analysis{SECRET}assistantfinalWithin 30 days. [1]",
    "thought and solution": f"<|begin_of_thought|>{SECRET}<|end_of_thought|>"
    "<|begin_of_solution|>Within 30 days. [1]<|end_of_solution|>",
    "a long one": f"<think>{SECRET * 2000}</think>Within 30 days. [1]",
    "a part of the content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": SECRET}]},
        {"type": "reasoning", "text": SECRET},
        {"type": "text", "text": "Within 30 days. [1]"},
    ],
}


@pytest.mark.parametrize("kind", WITH_THOUGHTS)
def test_a_thought_of_the_model_is_in_no_reply(http_peer: HttpPeer, ask: Any, kind: str) -> None:
    http_peer.reply_with(answer(WITH_THOUGHTS[kind]))
    reply = ask()

    assert " ".join(reply.text.split()) == "Within 30 days. [1]"
    assert [source.document_id for source in reply.sources] == ["returns"]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking", "reasoning_details"])
def test_a_field_of_thoughts_is_ignored(http_peer: HttpPeer, ask: Any, field: str) -> None:
    message = {"role": "assistant", "content": "Within 30 days.", field: SECRET}
    http_peer.reply_with(HttpReply(body={"choices": [{"message": message}]}))

    assert ask().text == "Within 30 days."


@pytest.mark.parametrize("text", [f"<think>{SECRET}", f"{SECRET}</think>", f"<think>{SECRET}</think> [9]", "<think>"])
def test_thoughts_alone_are_no_answer(http_peer: HttpPeer, ask: Any, text: str) -> None:
    http_peer.reply_with(answer(text))
    error = failed(ask, UpstreamError)

    assert "its answer is empty" in str(error)
    assert "angry" not in "".join(traceback.format_exception(error))


def test_an_answer_that_the_limit_of_tokens_cut_in_the_thought_says_so(http_peer: HttpPeer, ask: Any) -> None:
    choice = {"finish_reason": "length", "message": {"content": None, "reasoning_content": SECRET}}
    http_peer.reply_with(HttpReply(body={"choices": [choice]}))

    assert "the model reached its limit of tokens before it answered" in str(failed(ask, UpstreamError))


# Servers that differ from the specification


def test_a_content_of_parts_is_their_text(http_peer: HttpPeer, ask: Any) -> None:
    parts = [
        {"type": "text", "text": "Within "},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "output_text", "text": "30 "},
        {"type": "text", "text": {"value": "days"}},
        ". [1]",
        None,
        7,
    ]
    http_peer.reply_with(answer(parts))

    assert ask().text == "Within 30 days. [1]"


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 120.0, "completion_tokens": 7.6}, (120, 8)),
        ({"prompt_tokens": None, "completion_tokens": "many"}, (None, None)),
        ({"prompt_tokens": -1, "completion_tokens": 2**40}, (None, None)),
        ({"prompt_tokens": float("nan"), "completion_tokens": True}, (None, None)),
        (None, (None, None)),
        ([120, 8], (None, None)),
        ("120", (None, None)),
    ],
)
def test_odd_counts_of_tokens_cost_no_answer(http_peer: HttpPeer, ask: Any, usage: Any, counts: Any) -> None:
    http_peer.reply_with(answer(usage=usage))
    reply = ask()

    assert reply.text == "Within 30 days. [1]"
    assert (reply.prompt_tokens, reply.completion_tokens) == counts


def test_a_byte_order_mark_is_skipped(http_peer: HttpPeer, ask: Any) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(answer().body).encode()
    http_peer.reply_with(HttpReply(200, {"Content-Type": "application/json"}, body))

    assert ask().text == "Within 30 days. [1]"


def events(*chunks: Any, end: str = "data: [DONE]\n\n", line: str = "\n") -> HttpReply:
    body = ": connected\n\n" + "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
    return HttpReply(200, {"Content-Type": "text/event-stream"}, body.replace("\n", line))


def delta(text: str | None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


STREAM = [delta(None), delta("<think>" + SECRET), delta("</think>Within "), delta("30 days. [1]")]
COUNTS = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_an_event_stream_that_nobody_requested_is_read(http_peer: HttpPeer, ask: Any, line: str) -> None:
    http_peer.reply_with(events(*STREAM, COUNTS, line=line))
    reply = ask()

    assert reply.text == "Within 30 days. [1]"
    assert (reply.prompt_tokens, reply.completion_tokens) == (9, 3)


def test_a_stream_that_ends_by_its_finish_reason_is_complete(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(events(*STREAM, delta("", finish_reason="stop"), end=""))

    assert ask().text == "Within 30 days. [1]"


@pytest.mark.parametrize("end", ["", 'data: {"error": {"message": "overloaded", "code": "overloaded"}}\n\n', "data: {"])
def test_a_stream_that_is_cut_is_no_answer(http_peer: HttpPeer, ask: Any, end: str) -> None:
    http_peer.reply_with(events(*STREAM, end=end))

    assert "its answer is" in str(failed(ask, UpstreamError))


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_not_active"])
@pytest.mark.parametrize("field", ["code", "type"])
def test_an_account_without_credit_is_a_permanent_error_after_one_call(
    http_peer: HttpPeer, ask: Any, code: str, field: str
) -> None:
    http_peer.always = HttpReply(429, QUICK, {"error": {"message": KEY, field: code}})
    error = failed(ask, UpstreamRefused)

    assert str(error) == f"The model endpoint refused: it answered 429 ({code}): check the account's credit"
    assert len(http_peer.requests) == 1


def test_a_rate_limit_is_retried_and_has_the_servers_code(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.always = HttpReply(429, QUICK, {"error": {"code": "rate_limit_exceeded", "type": "tokens"}})

    assert str(failed(ask, UpstreamError)).endswith("it answered 429 (rate_limit_exceeded)")
    assert len(http_peer.requests) == 3


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        ({"code": "insufficient_quota"}, UpstreamRefused, "(insufficient_quota): check the account's credit"),
        ({"code": 402, "message": "no credit"}, UpstreamRefused, "(402)"),
        ({"code": "400", "message": "bad"}, UpstreamRefused, "(400)"),
        ({"code": 502, "message": "the provider is down"}, UpstreamError, "(502)"),
        ({"code": None, "type": "server_error"}, UpstreamError, "(server_error)"),
        ({"code": "no code, but words", "type": 7.5}, UpstreamError, "its answer is an error"),
        ("busy", UpstreamError, "its answer is an error"),
    ],
)
def test_an_error_with_status_200_is_told_with_its_code(
    http_peer: HttpPeer, ask: Any, error: Any, kind: Any, reason: str
) -> None:
    http_peer.reply_with(HttpReply(body={"error": error, "choices": None}))

    assert str(failed(ask, kind)).endswith(reason)
    assert len(http_peer.requests) == 1


def test_an_error_of_the_choice_is_an_error(http_peer: HttpPeer, ask: Any) -> None:
    choice = {"error": {"code": 429}, "finish_reason": "error", "message": {"content": "Within"}}
    http_peer.reply_with(HttpReply(body={"choices": [choice]}))

    assert "its answer is an error (429)" in str(failed(ask, UpstreamError))


def test_an_answer_that_a_filter_stopped_is_refused(http_peer: HttpPeer, ask: Any) -> None:
    choice = {"finish_reason": "content_filter", "message": {"content": "Within"}}
    http_peer.reply_with(HttpReply(body={"choices": [choice]}))

    assert "(content_filter)" in str(failed(ask, UpstreamRefused))


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_without_end_is_not_read_on(http_peer: HttpPeer, ask: Any, status: int) -> None:
    http_peer.always = HttpReply(status, QUICK, b"x" * (MAX_BODY + 1))

    assert "its answer has more than 4 MB" in str(failed(ask, UpstreamError))


def test_a_body_that_grows_when_it_is_decompressed_is_not_read_on(http_peer: HttpPeer, ask: Any) -> None:
    headers = {**QUICK, "Content-Encoding": "gzip"}
    http_peer.reply_with(HttpReply(200, headers, gzip.compress(json.dumps(answer().body).encode())))
    assert ask().text == "Within 30 days. [1]"

    http_peer.always = HttpReply(200, headers, gzip.compress(b" " * 50_000_000))
    assert "its answer has more than 4 MB" in str(failed(ask, UpstreamError))
    http_peer.always = HttpReply(200, headers, b"not compressed")
    assert "its answer cannot be decompressed" in str(failed(ask, UpstreamError))


def test_a_body_that_arrives_byte_by_byte_has_a_time_limit(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.always = HttpReply(200, QUICK, b"x" * 1000, drip=0.05)
    started = time.monotonic()

    assert "no answer within 0.3 s" in str(failed(ask, UpstreamError, timeout=0.3))
    assert time.monotonic() - started < 10
