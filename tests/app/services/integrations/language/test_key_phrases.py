"""Key phrases of texts."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.integrations.language.key_phrases import MAX_WORDS, key_phrases


def test_key_phrases_name_the_subject_and_recurring_ones_come_first() -> None:
    texts = [
        "My disc brakes squeak. The disc brakes are new!",
        "Can you look at the disc brakes, please? The battery charger is missing as well.",
    ]

    assert key_phrases(texts, limit=3) == ["disc brakes squeak", "disc brakes", "battery charger"]


def test_key_phrases_are_the_same_every_time_and_none_comes_twice() -> None:
    texts = ["wheel, frame, saddle, chain, bell.", "bell, chain, saddle, frame, wheel"]

    assert key_phrases(texts) == key_phrases(texts) == ["bell", "chain", "frame", "saddle", "wheel"]


def test_key_phrases_leave_out_noise() -> None:
    assert key_phrases(["I'm sure you don't... 12345 !!! ?! it's a-b; we've x, two"]) == []
    assert key_phrases([]) == []
    assert key_phrases(["", "   "]) == []


def test_a_phrase_does_not_cross_the_end_of_a_sentence_or_a_line() -> None:
    assert "chain saddle" not in key_phrases(["chain. saddle", "chain\nsaddle", "chain\rsaddle"])


def test_a_longer_run_of_words_is_no_phrase() -> None:
    assert key_phrases(["red frame saddle chain bell", "red frame"]) == ["red frame"]


@settings(deadline=None)
@given(texts=st.lists(st.text()), limit=st.integers(1, 20))
def test_any_texts_give_at_most_limit_short_phrases(texts: list[str], limit: int) -> None:
    phrases = key_phrases(texts, limit=limit)

    assert len(phrases) <= limit
    assert all(len(phrase.split(" ")) <= MAX_WORDS for phrase in phrases)


def test_huge_texts_take_bounded_time() -> None:
    begun = time.monotonic()

    key_phrases(["terrible wonderful gearbox but " * 500_000] * 1000)

    assert time.monotonic() - begun < 10
