"""Sentences of wrapped Markdown, and questions that ask for a number."""

from __future__ import annotations

from app.services.conversations.responders.base import SourcePassage
from app.services.conversations.responders.offline import OfflineResponder
from app.services.conversations.responders.words import sentences

WRAPPED = """## In what condition

Helmets can be returned only when the
hygiene seal inside is unbroken. Inner tubes
cannot be returned.

1. Ask for a label,
   or write to us.
2. Pack it well

| part | price |
| tube | 19 euros |
"""


def test_wrapped_lines_of_a_paragraph_are_joined() -> None:
    found = [sentence for _, sentence in sentences(WRAPPED)]

    assert found[:2] == [
        "Helmets can be returned only when the hygiene seal inside is unbroken.",
        "Inner tubes cannot be returned.",
    ]


def test_list_items_and_table_rows_stay_separate() -> None:
    found = [sentence for _, sentence in sentences(WRAPPED)]

    assert found[2:] == ["Ask for a label, or write to us.", "Pack it well", "| part | price |", "| tube | 19 euros |"]


def test_each_sentence_has_its_heading() -> None:
    assert {heading for heading, _ in sentences(WRAPPED)} == {"In what condition"}


def test_a_question_for_a_number_is_answered_with_one() -> None:
    text = "Returning is free for bicycles. You may return a bicycle within 30 days of delivery, if it is clean."
    passage = SourcePassage("returns.md", "Returns", 0, text, 1.0)

    answer = OfflineResponder().reply("How long do I have to return a bicycle?", history=[], passages=[passage])

    assert answer.text.startswith("You may return a bicycle within 30 days")
