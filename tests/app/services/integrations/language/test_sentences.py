"""Sentences of plain text and of wrapped Markdown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.integrations.language.sentences import markdown_sentences, sentences

WRAPPED = """# Returns

## In what condition

Helmets can be returned only when the
hygiene seal inside is unbroken. Inner tubes
cannot be returned.

1. Ask for a label,
   or write to us.
2. Pack it well

| part | price | sizes |
| --- | ---: | --- |
| tube | 19 euros | |
| tyre | 35 euros | 26, 28 |

lamp | meaning
"""


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in markdown_sentences(text)]


def test_wrapped_lines_of_a_paragraph_are_joined() -> None:
    assert texts(WRAPPED)[:2] == [
        "Helmets can be returned only when the hygiene seal inside is unbroken.",
        "Inner tubes cannot be returned.",
    ]


def test_list_items_are_sentences_and_the_rows_of_a_table_name_their_columns() -> None:
    assert texts(WRAPPED)[2:] == [
        "Ask for a label, or write to us.",
        "Pack it well",
        "tube: price 19 euros",
        "tyre: price 35 euros, sizes 26, 28",
        "lamp | meaning",
    ]


def test_each_sentence_knows_its_heading_and_its_place() -> None:
    found = list(markdown_sentences(WRAPPED))

    assert {sentence.heading for sentence in found} == {"In what condition"}
    assert [sentence.opens_section for sentence in found] == [True, *[False] * 6]
    assert [sentence.continues for sentence in found] == [False, True, *[False] * 5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs approx. 19 euros. Ask Dr. Jones.", ["It costs approx. 19 euros.", "Ask Dr. Jones."]),
        ("We open at 9 a.m. on Monday! Really? Yes.", ["We open at 9 a.m. on Monday!", "Really?", "Yes."]),
        ("Ask J. Smith. Use v1.5 of it.", ["Ask J. Smith.", "Use v1.5 of it."]),
        ('He said "Go." Then he went.', ['He said "Go."', "Then he went."]),
        ("no full stop", ["no full stop"]),
        ("See page 4. it goes on", ["See page 4. it goes on"]),
        ("保修期十年。电池两年。", ["保修期十年。", "电池两年。"]),
        (" \n ", []),
    ],
)
def test_sentences_end_at_full_stops_and_not_at_abbreviations(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected


@settings(deadline=None)
@given(text=st.text())
def test_no_word_of_a_text_is_lost_or_added(text: str) -> None:
    assert " ".join(sentences(text)).replace(" ", "") == "".join(text.split())
