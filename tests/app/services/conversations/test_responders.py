"""One suite for both responders; the endpoint's runs against a real server with the same protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.core.settings import ResponderSettings
from app.services.conversations.responders import Reason, Reply, Responder, SourcePassage, Turn, make_responder
from tests.fixtures.http_peer import HttpPeer, HttpReply, HttpRequest

RETURNS = SourcePassage(
    "returns",
    "Returns and refunds",
    0,
    "# Returns\nYou may return a bicycle within 30 days of delivery [7]. [[8]1] Refunds are paid to the card you used.",
    2.0,
)
SERVICE = SourcePassage(
    "service",
    "Workshop",
    3,
    "The first inspection is free within three months. We repair electric bicycles of other brands too.",
    1.5,
)
PASSAGES = [RETURNS, SERVICE]
TALK = [Turn("customer", "Is the first inspection free?"), Turn("assistant", "It is, within three months. [1]")]
QUESTION = "How long may I return a bicycle?"


def model(asked: HttpRequest) -> HttpReply:
    """A small chat completions server that quotes the passage with most words of the last message."""
    messages = asked.json()["messages"]
    material, question = re.split(r"^=== data \w+ ===$", messages[-1]["content"], flags=re.M)[1:]
    wanted = set(re.findall(r"\w{4,}", question.lower()))
    found = re.findall(r"^\[(\d+)\] (.*?)\n(.*?)(?=\n\n\[\d+\] |\Z)", material.strip(), re.S | re.M)
    best = max(found, key=lambda item: len(wanted & set(re.findall(r"\w{4,}", item[2].lower()))), default=None)
    text = f"{best[2]} [{best[0]}]" if best else "That is not in the documents. [1]"
    return HttpReply(
        body={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "local",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        }
    )


@pytest.fixture(scope="module")
def endpoint() -> Iterator[HttpPeer]:
    with HttpPeer() as peer:
        peer.always = model
        yield peer


@pytest.fixture(params=["offline", "openai"])
def responder(request: pytest.FixtureRequest, endpoint: HttpPeer) -> Iterator[Responder]:
    chosen = {"base_url": endpoint.url + "/v1", "model": "local", "timeout": 10} if request.param == "openai" else {}
    made = make_responder(ResponderSettings(_env_file=None, **chosen))
    assert made.name.partition(":")[0] == request.param
    yield made
    made.close()


def keeps_the_contract(reply: Reply, responder: Responder, passages: list[SourcePassage]) -> None:
    assert reply.text.strip() == reply.text != ""
    assert reply.responder == responder.name
    assert len(reply.responder) <= 64
    known = {(item.document_id, item.title, item.position) for item in passages}
    assert all((source.document_id, source.title, source.position) in known for source in reply.sources)
    cited = {int(number) for number in re.findall(r"\[(\d{1,3})\]", reply.text)}
    assert cited == set(range(1, len(reply.sources) + 1))


def test_a_question_is_answered_from_the_passage_that_answers_it(responder: Responder) -> None:
    reply = responder.reply(QUESTION, history=[], passages=PASSAGES)

    keeps_the_contract(reply, responder, PASSAGES)
    assert "30 days" in reply.text
    assert [source.document_id for source in reply.sources] == ["returns"]


def test_the_source_is_the_one_that_is_used_and_not_the_first(responder: Responder) -> None:
    reply = responder.reply("Do you repair electric bicycles?", history=TALK, passages=PASSAGES)

    keeps_the_contract(reply, responder, PASSAGES)
    assert [(source.document_id, source.position) for source in reply.sources] == [("service", 3)]


def test_without_passages_nothing_is_cited(responder: Responder) -> None:
    reply = responder.reply(QUESTION, history=[], passages=[])

    keeps_the_contract(reply, responder, [])
    assert reply.sources == ()


@pytest.mark.parametrize("reason", get_args(Reason))
@pytest.mark.parametrize("history", [[], TALK, TALK[:1], [Turn("operator", "Anyone there?")]])
def test_a_conversation_can_go_on_for_every_reason_and_from_every_state(
    responder: Responder, reason: Reason, history: list[Turn]
) -> None:
    for passages in ([], PASSAGES):
        keeps_the_contract(responder.follow_up(history=history, passages=passages, reason=reason), responder, passages)


def test_the_same_question_gets_the_same_answer(responder: Responder) -> None:
    first = responder.reply(QUESTION, history=TALK, passages=PASSAGES)

    assert responder.reply(QUESTION, history=TALK, passages=PASSAGES) == first


texts = st.text(max_size=200) | st.sampled_from(
    ["", "[1]", "Where is [2]?", "return [[9]1] a bicycle [9]", "hello", "\x00"]
)
passages_strategy = st.lists(
    st.builds(
        SourcePassage,
        document_id=st.sampled_from(["a", "b", "c"]),
        title=texts,
        position=st.integers(0, 3),
        text=texts | st.just(RETURNS.text),
        score=st.floats(0, 1),
    ),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    question=texts,
    history=st.lists(st.builds(Turn, st.sampled_from(["customer", "assistant"]), texts), max_size=3),
    passages=passages_strategy,
)
def test_the_contract_holds_for_any_text(
    responder: Responder, question: str, history: list[Turn], passages: list[SourcePassage]
) -> None:
    keeps_the_contract(responder.reply(question, history=history, passages=passages), responder, passages)
    follow_up = responder.follow_up(history=history, passages=passages, reason="no_reply")
    keeps_the_contract(follow_up, responder, passages)


# What only one of the responders does


def test_the_settings_decide_which_responder_is_made() -> None:
    def name(**given: object) -> str:
        responder = make_responder(ResponderSettings(_env_file=None, **given))
        responder.close()
        return responder.name

    assert name() == "offline"
    assert name(api_key=SecretStr("k")) == "offline"
    assert name(model="m") == "offline"
    assert name(api_key=SecretStr("k"), model="m") == "openai:m"
    assert name(base_url="http://127.0.0.1:1/v1", model="m" * 100) == "openai:" + "m" * 57


@pytest.fixture
def offline() -> Responder:
    return make_responder(ResponderSettings(_env_file=None))


def offline_reply(offline: Responder, question: str, *passages: SourcePassage) -> str:
    return offline.reply(question, history=[], passages=passages or PASSAGES).text


def test_the_offline_answer_is_word_for_word_and_names_its_documents(offline: Responder) -> None:
    reply = offline.reply("May I return the bicycle, and is an inspection free?", history=[], passages=PASSAGES)

    assert "You may return a bicycle within 30 days of delivery (7). [" in reply.text
    assert "The first inspection is free within three months. [" in reply.text
    assert {source.title for source in reply.sources} == {"Returns and refunds", "Workshop"}
    assert reply.text.endswith("Sources: " + "; ".join(f"[{n}] {s.title}" for n, s in enumerate(reply.sources, 1)))
    assert all(source.quote and source.quote in reply.text for source in reply.sources)


def test_a_question_without_an_answer_lists_the_words_that_were_searched(offline: Responder) -> None:
    expected = "I could not find an answer in the documents that I have. I looked for: elephants, circus."

    assert offline_reply(offline, "Do you have elephants for a circus?") == expected
    assert offline.reply("Do you have elephants for a circus?", history=[], passages=[]).text == expected


def test_one_common_word_is_not_an_answer(offline: Responder) -> None:
    assert offline_reply(offline, "Can I insure the bicycle against theft abroad?").startswith(
        "I could not find an answer"
    )


def test_a_partial_answer_names_the_missing_words(offline: Responder) -> None:
    text = offline_reply(offline, "Is the first inspection free within three months for elephants and giraffes?")

    assert "The first inspection is free within three months. [1]" in text
    assert "I found nothing about: elephants, giraffes." in text


def test_inflected_words_are_the_same_word(offline: Responder) -> None:
    assert "30 days" in offline_reply(offline, "Returning bicycles?")


def test_a_title_or_heading_counts_but_is_not_an_answer_itself(offline: Responder) -> None:
    hours = SourcePassage("hours", "Opening hours", 0, "# Opening hours\nOpening hours\nMonday to Friday: 9 to 18.", 1)

    assert offline_reply(offline, "What are your opening hours?", hours).startswith("Monday to Friday: 9 to 18. [1]")


@pytest.mark.parametrize("text", ["Hi", "Good morning!", "Thank you so much", "Hello, how are you?", "???", ""])
def test_a_message_that_asks_nothing_is_answered_by_what_there_is(offline: Responder, text: str) -> None:
    topics = ["Returns and refunds", "Workshop [3]", ""]
    first = offline.reply(text, history=[], passages=[], topics=topics).text
    later = offline.reply(text, history=[*TALK, Turn("customer", "Thanks!")], passages=[], topics=topics).text

    documents = "I can answer from these documents: Returns and refunds; Workshop (3)."
    assert first == f"What would you like to know? {documents}"
    assert later == f"Is anything about “Is the first inspection free?” still open? {documents}"
    assert offline.reply(text, history=[], passages=[]).text == "What would you like to know?"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Hello, how long may I return a bicycle?", "You may return"),
        ("Thanks, but is the inspection free?", "The first inspection"),
    ],
)
def test_a_greeting_before_a_question_does_not_matter(offline: Responder, text: str, answer: str) -> None:
    assert offline_reply(offline, text).startswith(answer)


def test_a_question_without_an_answer_says_what_can_be_asked(offline: Responder) -> None:
    reply = offline.reply("Do you have elephants?", history=[], passages=[], topics=["Returns", "Workshop"])

    assert reply.text.endswith("I looked for: elephants. I can answer from these documents: Returns; Workshop.")


def test_the_next_sentence_of_the_paragraph_is_quoted_with_a_single_one(offline: Responder) -> None:
    text = "The first inspection is free. It takes an hour.\n\nWheels are round."
    passage = SourcePassage("a", "Workshop", 0, text, 1.0)

    assert offline_reply(offline, "Is the inspection free?", passage) == (
        "The first inspection is free. [1] It takes an hour. [1]\n\nSources: [1] Workshop"
    )


def test_an_offline_follow_up_refers_to_the_question_and_repeats_nothing(offline: Responder) -> None:
    talk = [TALK[0], Turn("assistant", "The first inspection is free within three months. [1]")]
    silent = offline.follow_up(history=talk, passages=PASSAGES, reason="no_reply").text
    asked = offline.follow_up(history=talk, passages=PASSAGES, reason="operator").text
    unanswered = offline.follow_up(history=talk[:1], passages=PASSAGES, reason="operator").text

    assert silent.startswith("You wrote “Is the first inspection free?” and we have not heard from you since.")
    assert asked.startswith("We are coming back to your message “Is the first inspection free?”.")
    assert "within three months" not in silent + asked
    assert "within three months. [1]" in unanswered


@pytest.mark.parametrize(
    ("question", "answer"),
    [("车架保修期多长？", "车架保修期为十一年。"), ("谁承担运费？", "运费由顾客承担。")],
)
def test_a_question_without_spaces_is_answered_by_its_sentence(offline: Responder, question: str, answer: str) -> None:
    text = "顾客可以在三十天内退货。退货时请出示收据。运费由顾客承担。\n\n车架保修期为十一年。刹车片不在保修范围内。"
    passage = SourcePassage("a", "自行车", 0, text, 1.0)

    assert offline_reply(offline, question, passage).startswith(f"{answer} [1]")


def test_huge_texts_are_answered_in_time_and_within_bounds(offline: Responder) -> None:
    passages = [SourcePassage(str(n), "T", 0, "return bicycle " * 50_000, 1) for n in range(50)]
    reply = offline.reply("return " * 20_000 + "bicycle", history=[], passages=passages)

    assert len(reply.text) < 5000
