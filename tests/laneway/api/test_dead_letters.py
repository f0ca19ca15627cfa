"""Dead letters over HTTP: list, requeue, discard and restore, with dry runs and reasons for refusals."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import pytest

from laneway.platform import clock
from laneway.platform.db.queries.search import Filter
from laneway.schemas.task import TaskState
from tests.fixtures.api_calls import Api, change, problem, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import FAILING


def dead(
    api: Api, group: str = "g1", *, state: TaskState = TaskState.DEAD_LETTER, tags: Any = (), **values: Any
) -> str:
    """Create a dead letter whose message is gone."""
    id = submit(api, tags=list(tags))
    api.services.tasks.cancel(id)
    row = {"error": "away", "error_type": "UpstreamError", "error_group": group, "finished_at": clock.now()}
    change(api, id, state=state, **(row | values))
    return id


def listed(api: Api, **query: Any) -> list[str]:
    """The ids of the listed dead letters."""
    answer = api.http.get("/dead-letters", params=query)
    assert answer.status_code == 200, answer.text
    return [one["task_id"] for one in answer.json()["dead_letters"]]


def act(api: Api, what: str, **body: Any) -> dict[str, Any]:
    """Requeue, discard or restore; returns the response."""
    answer = api.http.post(f"/dead-letters/{what}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_dead_letters_are_listed_newest_first_and_filtered(api: Api) -> None:
    one, two = dead(api, tags=["a"], error="Timeout 100%"), dead(api, "g2", tags=["b"])
    failed = dead(api, "g3", state=TaskState.FAILED)
    dead(api, state=TaskState.COMPLETED)

    assert listed(api) == [two, one]
    assert listed(api, failed=True) == [failed, two, one]
    assert listed(api, group="g2") == listed(api, tag="b") == [two]
    assert listed(api, error="timeout 100%") == [one]
    assert listed(api, queue="analytics", name="generate_performance_report_task") == [two, one]
    assert listed(api, queue="webhooks") == listed(api, name="x") == listed(api, trashed=True) == []


def test_pages_have_no_gaps_and_no_repeats(api: Api) -> None:
    ids = [dead(api) for _ in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while query.get("before", 0) is not None:
        page = api.http.get("/dead-letters", params=query).json()
        seen += [one["task_id"] for one in page["dead_letters"]]
        query["before"] = page["next"]

    assert seen == ids[::-1]


@ONE_DATABASE
@pytest.mark.parametrize("query", ["limit=0", "limit=501", "before=-1", "failed=perhaps", "group=", "error=%00"])
def test_a_list_with_invalid_parameters_is_refused(api: Api, query: str) -> None:
    problem(api.http.get(f"/dead-letters?{query}"), 422)


def test_tasks_that_failed_the_same_way_are_one_group(api: Api) -> None:
    for group in ("g1", "g2", "g2"):
        dead(api, group)
    dead(api, "g3", state=TaskState.FAILED)
    groups = api.http.get("/dead-letters/groups").json()["groups"]

    assert [(group["group"], group["count"]) for group in groups] == [("g2", 2), ("g1", 1)]
    assert (groups[0]["name"], groups[0]["error_type"], groups[0]["error"]) == (
        "generate_performance_report_task",
        "UpstreamError",
        "away",
    )
    assert datetime.fromisoformat(groups[0]["first_at"]) <= datetime.fromisoformat(groups[0]["last_at"])
    assert len(api.http.get("/dead-letters/groups?failed=true").json()["groups"]) == 3
    assert len(api.http.get("/dead-letters/groups?limit=1").json()["groups"]) == 1


def test_a_dead_letter_is_shown_with_payload_traceback_and_raw_message(api: Api) -> None:
    id = dead(api, traceback="Trace of it", raw=b"\xff\x00", tags=["a"])
    shown = api.http.get(f"/dead-letters/{id}").json()

    assert (shown["task_id"], shown["state"], shown["group"], shown["tags"]) == (id, "dead_letter", "g1", ["a"])
    assert (shown["payload"]["hours"], shown["error"], shown["traceback"]) == (24, "away", "Trace of it")
    assert base64.b64decode(shown["raw"]) == b"\xff\x00"
    for other in ("nobody", submit(api), dead(api, state=TaskState.COMPLETED)):
        problem(api.http.get(f"/dead-letters/{other}"), 404)


@pytest.mark.parametrize("what", ["requeue", "discard"])
def test_a_dry_run_shows_the_dead_letters_and_changes_nothing(api: Api, platform: Platform, what: str) -> None:
    one, two, _ = dead(api), dead(api), dead(api, "g2")

    assert act(api, what, group="g1", dry_run=True) == {
        "matched": 2,
        "done": 0,
        "dry_run": True,
        "samples": [two, one],
        "refused": {},
        "next": None,
    }
    assert len(listed(api)) == 3
    assert platform.places("analytics") == {}


@pytest.mark.parametrize("choice", ["ids", "group", "tag", "error", "everything"])
def test_selected_dead_letters_are_requeued_and_run(api: Api, platform: Platform, choice: str) -> None:
    one = dead(api, "g7", tags=["x"], error="lost 7")
    other = dead(api)
    chosen: dict[str, Any] = {"ids": [one], "group": "g7", "tag": "x", "error": "LOST", "everything": True}
    done = act(api, "requeue", **{choice: chosen[choice]})

    both = choice == "everything"
    assert (done["matched"], done["done"], done["refused"]) == (1 + both, 1 + both, {})
    assert listed(api) == ([] if both else [other])
    assert platform.work("analytics") in (one, other)
    assert api.http.get(f"/tasks/{one}").json()["status"] in ("completed", "pending")
    assert act(api, "requeue", **{choice: chosen[choice]})["done"] == 0, "safe to repeat"


def test_refused_dead_letters_are_named_with_the_reason(api: Api) -> None:
    good, blank, waiting = dead(api), dead(api, payload={"surprise": 1}), submit(api)
    done = act(api, "requeue", ids=[good, blank, waiting, "nobody"])

    assert (done["matched"], done["done"]) == (2, 1)
    assert done["refused"] == {
        blank: f"Task {blank!r} is dead_letter and its payload is no longer kept or valid; it cannot be retried.",
        waiting: f"Task {waiting!r} is pending: it is no dead letter.",
        "nobody": "No task 'nobody' is known here.",
    }
    assert listed(api) == [blank]


def test_permanent_failures_are_requeued_only_on_request(api: Api) -> None:
    failed = dead(api, state=TaskState.FAILED)

    assert act(api, "requeue", everything=True)["matched"] == 0
    assert act(api, "requeue", everything=True, failed=True)["done"] == 1
    assert api.http.get(f"/tasks/{failed}").json()["status"] == "pending"


def test_discarded_dead_letters_are_in_the_trash_and_can_be_restored(api: Api) -> None:
    one, other = dead(api), dead(api)

    assert act(api, "discard", ids=[one])["done"] == 1
    assert (listed(api), listed(api, trashed=True)) == ([other], [one])
    assert api.http.get(f"/dead-letters/{one}").json()["trashed_at"]
    assert act(api, "requeue", ids=[one])["refused"] == {one: f"Dead letter {one!r} is in the trash."}
    assert act(api, "restore", ids=[one], dry_run=True) | {"samples": []} == {
        "matched": 1,
        "done": 0,
        "dry_run": True,
        "samples": [],
        "refused": {},
        "next": None,
    }
    assert act(api, "restore", ids=[one])["done"] == 1
    assert (listed(api), listed(api, trashed=True)) == ([other, one], [])


@ONE_DATABASE
@pytest.mark.parametrize("what", ["requeue", "discard", "restore"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"dry_run": True},
        {"ids": []},
        {"failed": True},
        {"everything": False},
        {"ids": ["x"] * 1001},
        {"group": ""},
        {"surprise": 1},
        {"ids": ["\x00"]},
        {"everything": "perhaps"},
        {"everything": True, "dry_run": 0},
        {"everything": True, "dry_run": "yes"},
    ],
)
def test_a_request_without_a_selection_is_refused(api: Api, what: str, body: dict[str, Any]) -> None:
    problem(api.http.post(f"/dead-letters/{what}", json=body), 422)


def test_a_task_that_fails_for_good_becomes_a_dead_letter_and_can_be_requeued(live: Site) -> None:
    id = live.submit(FAILING, {"times": 4})
    assert live.until(id, seconds=60).state == TaskState.DEAD_LETTER
    shown = live.get(f"/dead-letters/{id}")
    assert (shown["attempts"], shown["error_type"]) == (4, "UpstreamError")
    assert "in failing_task" in shown["traceback"]

    body = {"group": shown["group"], "name": "failing_task"}
    assert live.post("/dead-letters/requeue", body)["refused"] == {
        id: f"Task {id!r} is dead_letter and its payload is no longer kept or valid; it cannot be retried."
    }, "the API's catalog does not have this task"
    assert live.services.dead_letters.requeue(Filter(group=shown["group"], name="failing_task")).done == 1

    run = live.until(id, TaskState.DEAD_LETTER, TaskState.COMPLETED, seconds=60)
    assert run.attempts_before == 4
    assert [one["number"] for one in live.http.get(f"/tasks/{id}/attempts").json()] == list(
        range(1, run.attempts_before + run.attempts + 1)
    )
