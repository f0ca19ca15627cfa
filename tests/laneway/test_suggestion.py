"""Suggestions for names that do not exist."""

from __future__ import annotations

import pytest

from laneway._suggestion import suggest
from laneway.platform.errors import UnknownQueue, UnknownTaskType


@pytest.mark.parametrize(
    ("name", "text"), [("make_thumbnial", "'make_thumbnial' (did you mean 'make_thumbnail'?)"), ("xyz", "'xyz'")]
)
def test_the_most_similar_name_is_suggested(name: str, text: str) -> None:
    assert suggest(name, ["add", "make_thumbnail"]) == text


def test_errors_about_names_have_the_suggestion_and_all_names() -> None:
    task, queue = UnknownTaskType("ad", ["add", "b"]), UnknownQueue("crn", ["crm"])

    assert str(task) == "No task is registered as 'ad' (did you mean 'add'?); registered are add, b."
    assert str(queue) == "There is no queue 'crn' (did you mean 'crm'?); there are crm."
