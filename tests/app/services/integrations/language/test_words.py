"""Content words, their keys and their synonyms."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.integrations.language.words import SYNONYMS, content_words, key_of, keys, stop_words, variants


def texts(text: str) -> list[str]:
    return [word.text for word in content_words(text)]


def test_content_words_are_distinct_lower_case_and_without_stop_words() -> None:
    assert texts("Where is MY order? The order of the RED Saddle, it's late!") == ["order", "red", "saddle", "late"]


def test_content_words_hold_letters_and_digits_only() -> None:
    expected = ["foo", "bar", "baz", "qux", "pedál", "étoile"]

    assert texts('foo_bar "baz" (qux:*) pedál e\u0301toile \0 \ud800') == expected


def test_content_words_are_bounded_in_number_and_length() -> None:
    assert len(content_words(" ".join(f"word{number}" for number in range(100)), limit=50)) == 50
    assert texts("a" * 65 + " " + "b" * 64) == ["b" * 64]


def test_other_forms_and_synonyms_of_a_word_have_its_key() -> None:
    assert keys("returning bicycles") == keys("a bike was returned") == keys("sending back\nthe cycle")
    assert keys("warranty") == keys("guarantee") != keys("frame")
    assert keys("e-bikes") == keys("electric bicycle")


def test_variants_are_the_words_that_the_index_looks_for() -> None:
    (word,) = content_words("Guarantees")

    assert variants(word) == ("guarantees", "warranty", "guarantee", "guaranty")
    assert variants(content_words("saddle")[0]) == ("saddle",)


def test_scripts_without_spaces_are_divided_into_pieces() -> None:
    assert texts("保修期 11年") == ["保修", "修期", "11", "年"]
    assert keys("フレームの保証期間は11年です。") >= keys("保証期間")
    assert keys("เฟรมมีการรับประกันสิบเอ็ดปี") >= keys("รับประกัน") != frozenset()
    assert texts("iPhone手机") == ["iphone", "手机"]


def test_a_greeting_has_no_content_words() -> None:
    for greeting in ("Hi", "Hello there!", "Good morning!", "Thank you so much", "Many thanks, bye", "ok", "???", ""):
        assert content_words(greeting) == [], greeting


def test_no_synonym_is_a_stop_word() -> None:
    content = SYNONYMS.read_text(encoding="utf-8").splitlines()
    lines = [line for line in content if line and not line.startswith(("#", "hello,"))]
    members = {member.strip() for line in lines for member in line.split(",")}

    assert not members & stop_words()
    assert len({key_of(line.split(",")[0]) for line in lines}) == len(lines)


@settings(deadline=None)
@given(text=st.text())
def test_any_text_has_words_with_different_keys(text: str) -> None:
    found = content_words(text)

    assert len({word.key for word in found}) == len(found)
    assert all(word.text not in stop_words() for word in found)


def test_a_huge_text_takes_bounded_time() -> None:
    begun = time.monotonic()

    content_words("send back bicycles but " * 500_000)

    assert time.monotonic() - begun < 10
