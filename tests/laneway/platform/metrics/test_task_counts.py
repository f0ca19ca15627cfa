"""The figures of tasks are made from counters, which another version may have written."""

from __future__ import annotations

from laneway.engine.event_counts import OTHER
from laneway.platform.metrics.readings import TaskReading
from laneway.platform.metrics.task_counts import tasks_of

CHORE, QUEUE = "cleanup_old_data_task", "maintenance"


def reading(counters: dict[str, int], task: str = CHORE) -> TaskReading:
    """The figures of one task."""
    return next(
        each for each in tasks_of(QUEUE, {(task, name): n for name, n in counters.items()}) if each.task == task
    )


def test_registered_tasks_begin_at_zero_in_their_own_queue() -> None:
    found = {each.task: each for each in tasks_of(QUEUE, {})}

    assert CHORE in found and "send_webhook_response_task" not in found
    assert set(found[CHORE].finished) == {"completed", "failed", "dead_letter", "cancelled", "expired"}
    assert set(found[CHORE].ended.values()) == {0}
    assert (found[CHORE].enqueued, found[CHORE].waited, found[CHORE].ran) == (0, None, None)


def test_buckets_are_cumulative_and_end_with_all_durations() -> None:
    found = reading({"ran:5": 2, "ran:10": 3, "ran:more": 1, "ran": 12_345, "waited:1000": 1, "waited": 700})

    assert found.ran is not None and found.waited is not None
    assert dict(found.ran.buckets)["0.005"] == 2
    assert dict(found.ran.buckets)["0.01"] == dict(found.ran.buckets)["21600"] == 5
    assert (found.ran.buckets[-1], found.ran.sum) == (("+Inf", 6), 12.345)
    assert (dict(found.waited.buckets)["0.5"], dict(found.waited.buckets)["1"], found.waited.sum) == (0, 1, 0.7)


def test_a_bound_of_another_version_counts_up_to_the_next_larger_one() -> None:
    found = reading({"ran:7": 1, "ran:99999999": 1, "ran:garbage": 1, "ran": 1})

    assert found.ran is not None
    assert (dict(found.ran.buckets)["0.005"], dict(found.ran.buckets)["0.01"]) == (0, 1)
    assert found.ran.buckets[-1] == ("+Inf", 3)


def test_only_known_outcomes_and_states_become_labels() -> None:
    found = reading({"ended:completed": 2, "ended:invented": 1, "finished:failed": 3, "finished:": 4}, task=OTHER)

    assert (found.ended["completed"], found.finished["failed"]) == (2, 3)
    assert "invented" not in found.ended and "" not in found.finished
