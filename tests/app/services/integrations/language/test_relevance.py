"""What makes a sentence the answer to a question."""

from __future__ import annotations

import pytest

from app.services.integrations.language.questions import asked_fact, fact_position
from app.services.integrations.language.relevance import statements, worth
from app.services.integrations.language.words import keys


def best(question: str, text: str, *, title: str = "") -> str:
    """The sentence of a text that is worth most."""
    weights = dict.fromkeys(keys(question), 1.0)
    asked = asked_fact(question)
    return max(statements(text, title=title), key=lambda item: worth(item, keys(question), weights, asked)).text


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("How long does the warranty last?", "duration"),
        ("How many days do I have?", "duration"),
        ("How often should I oil the chain?", "frequency"),
        ("When does the shop open?", "time"),
        ("What should I do when the chain breaks?", None),
        ("How much is a tube?", "money"),
        ("What does a tube cost?", "money"),
        ("Are the costs of delivery paid back?", None),
        ("How high is the saddle?", "number"),
        ("In which cities do you have shops?", "place"),
        ("Can I return a helmet?", None),
    ],
)
def test_a_question_asks_for_a_kind_of_fact(question: str, fact: str | None) -> None:
    assert asked_fact(question) == fact


@pytest.mark.parametrize(
    ("sentence", "fact", "expected"),
    [
        ("The warranty is ten years.", "duration", True),
        ("Two to five working days", "duration", True),
        ("It begins on the day of delivery.", "duration", False),
        ("It begins on the day of delivery.", "time", True),
        ("Open from 9:00", "time", True),
        ("It costs 19 euros", "money", True),
        ("Returns are free.", "money", True),
        ("It has 19 parts", "money", False),
        ("Look at it every two months", "frequency", True),
        ("Our shop in Hamburg", "place", True),
        ("Our shop in the courtyard", "place", False),
    ],
)
def test_a_sentence_states_a_kind_of_fact(sentence: str, fact: str, expected: bool) -> None:
    assert (fact_position(sentence, fact) is not None) is expected  # type: ignore[arg-type]


def test_a_fact_about_the_subject_is_preferred_to_one_about_something_else() -> None:
    text = (
        "A battery that falls below 70 percent within two years is replaced under the warranty. "
        "The warranty on frames is ten years, on rigid forks five years, and on motors two years or 500 cycles. "
        "The warranty begins on the day of delivery."
    )

    assert best("How long does the warranty last?", text).startswith("The warranty on frames is ten years")


def test_a_question_for_an_amount_is_answered_with_one() -> None:
    text = "Returning is free for bicycles. You may return a bicycle within 30 days of delivery, if it is clean."

    assert best("How long do I have to return a bicycle?", text).startswith("You may return a bicycle within 30 days")


def test_the_heading_of_a_sentence_counts_for_it() -> None:
    text = "# Storing in winter\n\nKeep it at 10 degrees.\n\n# Charging\n\nKeep it at 20 degrees."

    assert best("At what temperature do I keep it when I charge it?", text) == "Keep it at 20 degrees."


def test_a_repeated_title_is_no_statement() -> None:
    found = statements("# Hours\n\nOpening hours\n\nMonday: 9 to 18.", title="Opening hours")

    assert [item.text for item in found] == ["Monday: 9 to 18."]
