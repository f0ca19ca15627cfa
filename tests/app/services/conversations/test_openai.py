"""The endpoint's responder against a real local server: its requests, and its error for each kind of failure."""

from __future__ import annotations

import gzip
import json
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.core.settings import ResponderSettings
from app.services.conversations.responders import Reply, Responder, SourcePassage, Turn, make_responder
from app.services.conversations.responders.endpoint_http import MAX_BODY
from laneway.platform.errors import PlatformError, UpstreamError, UpstreamRefused
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest

KEY = "sk-test-0123456789"
PASSAGES = [
    SourcePassage("returns", "Returns", 0, "You may return a bicycle within 30 days.", 2.0),
    SourcePassage("service", "Workshop", 4, "The first inspection is free.", 1.0),
]
QUICK = {"retry-after-ms": "1"}


@pytest.fixture
def ask(http_peer: HttpPeer) -> Iterator[Callable[..., Reply]]:
    made: list[Responder] = []

    def ask(question: str = "How long?", *, history: Any = (), passages: Any = PASSAGES, **settings: Any) -> Reply:
        given = {"base_url": http_peer.url + "/v1", "api_key": SecretStr(KEY), "model": "local", "timeout": 10}
        made.append(make_responder(ResponderSettings(_env_file=None, **{**given, **settings})))
        return made[-1].reply(question, history=list(history), passages=passages)

    yield ask
    for responder in made:
        responder.close()


def answer(text: Any = "Within 30 days. [1]", **more: Any) -> HttpReply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return HttpReply(
        body={"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}
    )


def test_the_request_holds_the_passages_the_history_and_the_question(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer())
    history = [Turn("customer", "Hi"), Turn("assistant", "Hello!"), Turn("operator", "I am Jo.")]
    ask("How long may I return it?", history=history)

    (asked,) = http_peer.requests
    sent = asked.json()
    assert (asked.path, sent["model"]) == ("/v1/chat/completions", "local")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    roles = [(item["role"], item["content"]) for item in sent["messages"][1:]]
    assert roles == [
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("assistant", "I am Jo."),
        ("user", "How long may I return it?"),
    ]
    assert "[1] Returns\nYou may return a bicycle within 30 days." in sent["messages"][0]["content"]
    assert "[2] Workshop\nThe first inspection is free." in sent["messages"][0]["content"]


def test_history_and_passages_are_bounded_and_the_newest_turns_are_kept(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer())
    history = [Turn("customer", f"turn {number} " + "x" * 1000) for number in range(100)]
    ask(history=history, passages=[SourcePassage("d", "T", n, "y" * 100_000, 1) for n in range(50)])

    body = http_peer.requests[0].body.decode()
    assert len(body) < 40_000
    assert "turn 99 " in body
    assert "turn 5 " not in body


def test_sources_are_the_cited_passages_in_the_order_of_their_citation(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer("The inspection is free [2], returns take 30 days [1, 2]. Or so [9][[9]8]."))
    reply = ask()

    assert reply.text == "The inspection is free [1], returns take 30 days [2][1]. Or so."
    assert [source.document_id for source in reply.sources] == ["service", "returns"]


def test_an_answer_that_cites_nothing_has_no_sources(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer("I do not know."))

    assert ask().sources == ()


def test_token_counts_are_recorded_when_the_server_gives_them(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer(usage={"prompt_tokens": 120, "completion_tokens": 8, "total_tokens": 128}), answer())
    counted, uncounted = ask(), ask()

    assert (counted.prompt_tokens, counted.completion_tokens) == (120, 8)
    assert (uncounted.prompt_tokens, uncounted.completion_tokens) == (None, None)
    assert counted.responder == "openai:local"


def test_every_answer_can_be_stored(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer("nul: \x00"), answer("x" * 1_000_000), answer("half a pair: \ud800"))

    assert ask().text == "nul: \ufffd"
    assert len(ask().text) == 20_000
    assert ask().text == "half a pair: \ufffd"


def test_a_local_server_needs_no_key(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(answer())

    assert ask(api_key=None).text == "Within 30 days. [1]"


def test_proxies_of_the_environment_are_not_used(
    http_peer: HttpPeer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_peer.reply_with(answer())
    with HttpPeer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        ask()

        assert proxy.requests == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_error_is_retried_by_the_sdk(http_peer: HttpPeer, ask: Any, status: int) -> None:
    http_peer.reply_with(HttpReply(status, QUICK), HttpReply(status, QUICK), answer())

    assert ask().text == "Within 30 days. [1]"
    assert len(http_peer.requests) == 3


def test_retry_after_is_honoured(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.reply_with(HttpReply(429, {"Retry-After": "1"}), answer())
    started = time.monotonic()
    ask()

    assert time.monotonic() - started >= 1


def failed(ask: Any, kind: type[PlatformError], **settings: Any) -> Any:
    with pytest.raises(kind) as caught:
        ask(**settings)
    return caught.value


def test_a_lasting_429_is_retryable_after_the_servers_delay(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.always = HttpReply(429, {**QUICK, "Retry-After": "300"})
    error = failed(ask, UpstreamError)

    assert error.retry_after == 300
    assert str(error) == "The model endpoint failed: it answered 429"
    assert len(http_peer.requests) == 3


def test_a_delay_longer_than_the_sdk_waits_is_left_to_the_task(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.always = HttpReply(429, {"Retry-After": "3600"})

    assert failed(ask, UpstreamError).retry_after == 3600
    assert len(http_peer.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504])
def test_a_lasting_server_error_is_retryable(http_peer: HttpPeer, ask: Any, status: int) -> None:
    http_peer.always = HttpReply(status, QUICK)

    assert failed(ask, UpstreamError).retry_after is None
    assert len(http_peer.requests) == 3


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 422])
def test_a_refusal_is_permanent_and_sent_once(http_peer: HttpPeer, ask: Any, status: int) -> None:
    http_peer.always = HttpReply(
        status, {"Location": http_peer.url}, {"error": {"message": KEY, "code": "model_not_found"}}
    )
    error = failed(ask, UpstreamRefused)

    assert str(error).startswith(f"The model endpoint refused: it answered {status} (model_not_found)")
    assert error.retryable is False
    assert len(http_peer.requests) == 1


def test_a_time_out_is_retryable(http_peer: HttpPeer, ask: Any) -> None:
    http_peer.always = HttpReply(delay=30)
    started = time.monotonic()
    error = failed(ask, UpstreamError, timeout=0.2)

    assert str(error) == "The model endpoint failed: no answer within 0.2 s"
    assert time.monotonic() - started < 10


def test_an_unreachable_server_is_retryable(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert "cannot be reached" in str(failed(ask, UpstreamError, base_url=f"http://127.0.0.1:{port}/v1"))


BROKEN = {
    "not json": HttpReply(200, {"Content-Type": "application/json"}, '{"choices": [{"mess'),
    "a web page": HttpReply(200, {"Content-Type": "text/html"}, "<html>Welcome</html>"),
    "nothing": HttpReply(200),
    "a list": HttpReply(200, {"Content-Type": "application/json"}, "[]"),
    "no choices": HttpReply(body={"id": "c", "object": "chat.completion", "choices": []}),
    "null choices": HttpReply(body={"choices": None}),
    "a null choice": HttpReply(body={"choices": [None]}),
    "text as a message": HttpReply(body={"choices": [{"message": "hello"}]}),
    "no message": HttpReply(body={"choices": [{"index": 0}]}),
    "null content": answer(None),
    "content that is not text": answer([{"type": "text"}]),
    "empty content": answer("  \n "),
    "only invented citations": answer("[7]"),
    "not utf-8": HttpReply(200, {"Content-Type": "application/json"}, b'{"choices": "\xff"}'),
    "an error with 200": HttpReply(body={"error": {"message": "overloaded"}}),
    "an error with 200 as text": HttpReply(body={"error": "overloaded", "choices": None}),
    "deep json": HttpReply(200, {"Content-Type": "application/json"}, "[" * 100_000),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_invalid_response_is_retryable(http_peer: HttpPeer, ask: Any, broken: str) -> None:
    http_peer.reply_with(BROKEN[broken])

    assert "its answer is" in str(failed(ask, UpstreamError))


@pytest.mark.parametrize("key", [KEY, "letters_only"])
def test_the_key_is_in_no_error_and_no_traceback(http_peer: HttpPeer, ask: Any, key: str) -> None:
    def echo(asked: HttpRequest) -> HttpReply:
        said = {"error": {"message": f"bad key {asked.headers['authorization']}", "code": key, "type": key}}
        return HttpReply(401, QUICK, said)

    http_peer.always = echo
    error = failed(ask, UpstreamRefused, api_key=SecretStr(key))

    assert key not in "".join(traceback.format_exception(error))
    assert key not in repr(error)
    assert str(error) == "The model endpoint refused: it answered 401: check OPENAI_API_KEY"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


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
