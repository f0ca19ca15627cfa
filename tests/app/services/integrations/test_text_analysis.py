"""Sentiment, key phrases and content words."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.integrations import text_analysis
from app.services.integrations.text_analysis import content_words, key_phrases, label, sentiment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I love this bicycle, it is wonderful!", "positive"),
        ("Thank you so much, great service", "positive"),
        ("The brakes are terrible and nobody answers. I am very angry.", "negative"),
        ("This is the worst shop ever", "negative"),
        ("The parcel has three items.", "neutral"),
        ("", "neutral"),
        ("???", "neutral"),
    ],
)
def test_a_sentiment_is_recognised(text: str, expected: str) -> None:
    assert label(sentiment(text)) == expected


def test_negation_turns_the_sentiment_with_either_apostrophe() -> None:
    assert sentiment("I don't like it") < 0
    assert sentiment("I don’t like it") == sentiment("I don't like it")


@pytest.mark.parametrize(
    ("score", "expected"),
    [(1, "positive"), (0.05, "positive"), (0.049, "neutral"), (0, "neutral"), (-0.049, "neutral"), (-0.05, "negative")],
)
def test_the_limits_of_the_labels_are_those_of_vader(score: float, expected: str) -> None:
    assert label(score) == expected


@settings(deadline=None)
@given(text=st.text())
def test_any_text_has_a_sentiment_between_minus_one_and_one(text: str) -> None:
    assert -1 <= sentiment(text) <= 1


def test_key_phrases_name_the_subject_and_recurring_ones_come_first() -> None:
    texts = [
        "My disc brakes squeak. The disc brakes are new!",
        "Can you look at the disc brakes, please? The battery charger is missing as well.",
    ]

    phrases = key_phrases(texts, limit=3)

    assert phrases[0].startswith("disc brakes")
    assert any("battery charger" in phrase for phrase in phrases)


def test_key_phrases_are_the_same_every_time_and_none_comes_twice() -> None:
    texts = ["wheel, frame, saddle, chain, bell.", "bell, chain, saddle, frame, wheel"]

    assert key_phrases(texts) == key_phrases(texts) == ["bell", "chain", "frame", "saddle", "wheel"]


def test_key_phrases_leave_out_noise() -> None:
    assert key_phrases(["I'm sure you don't... 12345 !!! ?! it's a-b; we've x"]) == []
    assert key_phrases([]) == []
    assert key_phrases(["", "   "]) == []


def test_a_phrase_does_not_cross_the_end_of_a_sentence_or_a_line() -> None:
    assert "chain saddle" not in key_phrases(["chain. saddle", "chain\nsaddle", "chain\rsaddle"])


@settings(deadline=None)
@given(texts=st.lists(st.text()), limit=st.integers(1, 20))
def test_any_texts_give_at_most_limit_short_phrases(texts: list[str], limit: int) -> None:
    phrases = key_phrases(texts, limit=limit)

    assert len(phrases) <= limit
    assert all(len(phrase.split(" ")) <= text_analysis.MAX_PHRASE_WORDS for phrase in phrases)


def test_huge_texts_take_bounded_time() -> None:
    huge = "terrible wonderful gearbox but " * 500_000
    begun = time.monotonic()

    key_phrases([huge] * 1000)
    sentiment(huge)
    content_words(huge)

    assert time.monotonic() - begun < 10


def test_content_words_are_distinct_lower_case_and_without_stop_words() -> None:
    assert content_words("Where is MY order? The order of the RED Saddle, it's late!") == [
        "order",
        "red",
        "saddle",
        "late",
    ]


def test_content_words_hold_letters_and_digits_only() -> None:
    assert content_words('foo_bar "baz" (qux:*) pedál e\u0301toile \0 \ud800') == [
        "foo",
        "bar",
        "baz",
        "qux",
        "pedál",
        "étoile",
    ]


def test_content_words_are_bounded_in_number_and_length() -> None:
    assert len(content_words(" ".join(f"word{number}" for number in range(100)))) == 50
    assert content_words("a" * 65 + " " + "b" * 64) == ["b" * 64]


def test_the_libraries_are_not_imported_before_they_are_used() -> None:
    code = (
        "import sys, app.services.integrations.text_analysis, app.services.documents.passage_store;"
        "import app.services.analytics.analytics;"
        "print({'nltk', 'rake_nltk', 'vaderSentiment', 'stop_words'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
