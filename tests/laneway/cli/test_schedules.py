"""`laneway schedules`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from laneway.platform.db.queries import schedules as queries
from tests.fixtures.shell import Shell

TASK = "cleanup_old_data_task"


@pytest.fixture(autouse=True)
def no_schedules(laneway: Shell) -> Iterator[None]:
    yield
    with laneway.site.services.database.transaction() as session:
        for row in queries.all_schedules(session):
            session.delete(row)


def test_a_schedule_is_made_shown_changed_and_deleted(laneway: Shell) -> None:
    made = laneway("schedules", "create", "sweep", "--task", TASK, "--cron", "0 3 * * *", "--timezone", "Asia/Tokyo")
    assert made.code == 0, made.err
    assert "0 3 * * * Asia/Tokyo" in made.out
    assert "sweep" in laneway("schedules", "list").out
    shown = laneway("schedules", "show", "sweep", "--json").json()
    assert (shown["source"], len(shown["upcoming"])) == ("operator", 10)

    changed = laneway("schedules", "change", "sweep", "--task", TASK, "--every", "15m", "--json").json()
    assert changed["when"] == "every 0:15:00"
    assert laneway("schedules", "delete", "sweep").code == 0
    assert laneway("schedules", "show", "sweep").code == 1


def test_a_schedule_is_paused_resumed_and_run(laneway: Shell) -> None:
    laneway("schedules", "create", "sweep", "--task", TASK, "--every", "1d")
    assert "paused by" in laneway("schedules", "pause", "sweep").out
    assert "active" in laneway("schedules", "resume", "sweep").out
    id = laneway("schedules", "run", "sweep", "--json").json()["task_id"]
    shown = laneway("schedules", "show", "sweep")
    assert id in shown.out and "Next firings" in shown.out
    assert laneway("status", id).code == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--cron", "61 * * * *"), "bad minute"),
        (("--cron", "0 3 * * *", "--timezone", "Mars"), "IANA"),
        ((), "either cron or every"),
        (("--every", "15m", "--missed", "never"), "missed"),
    ],
)
def test_a_bad_schedule_is_refused(words: tuple[str, ...], problem: str, laneway: Shell) -> None:
    ran = laneway("schedules", "create", "bad", "--task", TASK, *words)
    assert ran.code != 0
    assert problem in ran.err + ran.out


def test_a_run_that_the_overlap_policy_refuses_can_run_beside(laneway: Shell) -> None:
    laneway("schedules", "create", "sweep", "--task", TASK, "--every", "1d", "--overlap", "skip")
    first = laneway("schedules", "run", "sweep", "--json").json()["task_id"]
    refused = laneway("schedules", "run", "sweep")
    assert refused.code != 0 and first in refused.err + refused.out
    assert laneway("schedules", "run", "sweep", "--beside").code == 0
