"""Dead letters are shown without secrets."""

from __future__ import annotations

from datetime import UTC, datetime

from laneway.platform.db.queries.search import Group
from laneway.platform.history.adoption import run_from_call
from laneway.platform.operations.dead_letter_views import dead_letter_view, group_view

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS, SHOWN = "https://user:hunter2@x.example/a", "https://x.example/a"


def test_a_dead_letter_is_shown_without_secrets() -> None:
    payload = {"url": ADDRESS, "api_key": "hunter2", "n": 1}
    run = run_from_call("t-1", "note", payload, queue="celery", at=NOW, priority=3)
    run.error, run.traceback = f"no answer of {ADDRESS}", f"File: get('{ADDRESS}')"

    view = dead_letter_view(run)

    assert view.payload == {"url": SHOWN, "api_key": "[redacted]", "n": 1}
    assert (view.error, view.traceback) == (f"no answer of {SHOWN}", f"File: get('{SHOWN}')")


def test_a_group_of_dead_letters_is_shown_without_secrets() -> None:
    group = Group("g", "note", "OSError", f"no answer of {ADDRESS}", 2, NOW, NOW)

    assert group_view(group).error == f"no answer of {SHOWN}"
