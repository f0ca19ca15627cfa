"""The search and the offline responder stay as good as the questions over the example documents show."""

from __future__ import annotations

import pytest

from app.services.conversations.responders.offline import OfflineResponder
from benchmarks.answers.measure import Judgement, figures, ingest_examples, judge
from benchmarks.answers.questions import read_questions
from laneway.platform.db.session import Database

QUESTION = "How long does the warranty last?"


@pytest.fixture
def judgements(database: Database) -> list[Judgement]:
    """What came back for every question, on SQLite and on PostgreSQL."""
    return judge(read_questions(), ingest_examples(database), OfflineResponder())


def test_the_questions_are_answered_as_well_as_before(judgements: list[Judgement]) -> None:
    for purpose in ("choose", "check"):
        found = figures([item for item in judgements if item.question.purpose == purpose])
        assert found.count >= 40
        assert found.recall_1 is not None
        assert found.recall_1 >= 0.82, purpose
        assert found.recall_3 is not None
        assert found.recall_3 >= 0.92, purpose
        assert found.answered_at_once is not None
        assert found.answered_at_once >= 0.70, purpose
        assert found.silent is not None
        assert found.silent >= 0.90, purpose

    # the question of the README gets the warranty of frames
    (judgement,) = (item for item in judgements if item.question.text == QUESTION)

    assert judgement.rank == 1
    assert judgement.reply.startswith("The warranty on frames is ten years")
