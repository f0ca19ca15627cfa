"""What kind of fact an English question asks for, and whether a sentence has a fact of that kind."""

from __future__ import annotations

import re
from functools import cache
from typing import Final, Literal

from app.services.integrations.language.words import key_of

Fact = Literal["duration", "frequency", "time", "money", "number", "place"]

MAX_QUESTION: Final = 2000
"""Characters of a question that are read."""

_NUMBER: Final = (
    r"(?:\d[\d.,:]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|"
    r"sixty|ninety|hundred|dozen|half|several)"
)
_UNIT: Final = (
    r"(?:(?:working |business |calendar )?day|second|minute|hour|night|week(?:end)?|month|quarter|season|year)s?"
)
_DATE: Final = (
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|january|february|march|april|june|july|august|september|october|"
    r"november|december|noon|midnight|today|tomorrow|overnight"
)
_DURATION: Final = rf"\b(?:{_NUMBER}|an?|few)(?: to \w+| or \w+| and \w+)*[\s-]+{_UNIT}\b"
_BEGINS: Final = r"(?:^|[.?!,;:]\s*|\b(?:and|but|or|from|until|since|by)\s+)"
"""Where a question may begin within a message: "when" in its middle asks nothing."""
_ASKS: Final[dict[Fact, re.Pattern[str]]] = {
    "duration": re.compile(rf"\bhow (?:long|many {_UNIT})\b"),
    "frequency": re.compile(r"\bhow (?:often|regularly|frequently)\b"),
    "time": re.compile(
        rf"\bhow (?:soon|late|early|quick(?:ly)?|fast)\b|{_BEGINS}when\b|\b(?:what|which) (?:time|day|date|hours)\b|"
        r"\bopening (?:hours|times)\b"
    ),
    "money": re.compile(r"\bhow (?:much|expensive)\b|\bwhat\b.*\b(?:costs?|prices?|fees?|charge)\b"),
    "number": re.compile(
        r"\bhow (?:many|high|tall|heavy|far|old|large|big|deep|wide|hot|cold)\b|\b(?:what|which) (?:size|temperature)\b"
    ),
    "place": re.compile(r"\b(?:what|which) (?:cit(?:y|ies)|towns?|countr(?:y|ies)|places?|streets?)\b"),
}
"""The first one that is found counts."""
_HAS: Final[dict[Fact, re.Pattern[str]]] = {
    "duration": re.compile(_DURATION, re.IGNORECASE),
    "frequency": re.compile(
        r"\b(?:every|each|once|twice|per|times|daily|weekly|monthly|yearly|annually|always|never)\b", re.IGNORECASE
    ),
    "time": re.compile(
        rf"{_DURATION}|\b\d{{1,2}}:\d\d\b|\b\d{{1,2}} (?:to|and) \d{{1,2}}\b|\b(?:{_DATE})\b|"
        rf"\b(?:the|next|same|every|each) {_UNIT}\b",
        re.IGNORECASE,
    ),
    "money": re.compile(
        r"\d\s*(?:euros?|eur|dollars?|pounds?|cents?|francs?|crowns?)\b|[€$£]\s*\d|\d\s*[€$£]|\bfree\b|"
        r"\b(?:no|without(?: any)?) (?:extra )?costs?\b",
        re.IGNORECASE,
    ),
    "number": re.compile(rf"\b{_NUMBER}\b", re.IGNORECASE),
    "place": re.compile(r"\b(?:in|at|near|from|to) (?:the )?[A-Z]\w+"),
}


_STANDS_FOR: Final[dict[Fact, tuple[str, ...]]] = {
    "duration": ("time", "minute", "hour", "day", "week", "month", "year"),
    "frequency": ("time",),
    "time": ("time", "hour", "day", "date"),
    "money": ("cost", "price", "much", "charge"),
    "number": ("number",),
    "place": ("city", "town", "country", "place", "street"),
}
"""Words of a question that a fact answers: a sentence with an amount need not say "costs"."""


def asked_fact(question: str) -> Fact | None:
    """The kind of fact that a question asks for; None if it asks for no such fact."""
    plain = question[:MAX_QUESTION].lower()
    return next((fact for fact, pattern in _ASKS.items() if pattern.search(plain)), None)


def fact_position(sentence: str, fact: Fact) -> int | None:
    """Where a sentence states a fact of this kind first; None if it states none."""
    found = _HAS[fact].search(sentence)
    return found.start() if found else None


@cache
def words_for(fact: Fact) -> frozenset[str]:
    """The keys of the words that a sentence with this kind of fact need not have."""
    return frozenset(key_of(word) for word in _STANDS_FOR[fact])
