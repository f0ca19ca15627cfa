"""POST /tasks with a rule about the other tasks of a key: what it answers, and who may ask for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from laneway.platform.access.scopes import Scope
from laneway.platform.registry import registry
from laneway.schemas.choices import IfBusy
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api, problem, submit
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec
from tests.laneway.api.test_access import bearer

DEBOUNCE = {"debounce": {"key": "ada", "seconds": 5, "max_seconds": 60}}
THROTTLE = {"throttle": {"key": "ada", "seconds": 60}}


def answers(api: Api, rule: dict[str, Any], *hours: int) -> list[tuple[int, dict[str, Any]]]:
    """Submit a report for each of these hours; the answers."""
    made = [api.http.post("/tasks", json={"name": REPORT, "payload": {"hours": each}, **rule}) for each in hours]
    return [(each.status_code, each.json()) for each in made]


def test_a_debounced_submission_is_merged_into_the_waiting_task(api: Api, platform: Platform) -> None:
    (status, first), (again_status, again) = answers(api, DEBOUNCE, 1, 2)

    assert (status, first["state"], first["outcome"]) == (202, "scheduled", "accepted")
    assert (again_status, again) == (200, first | {"created": False, "outcome": "merged"})
    shown = api.http.get(f"/tasks/{first['task_id']}").json()
    assert (shown["payload"]["hours"], shown["status"], shown["waiting_for"]) == (2, "scheduled", "its due time")
    why = api.http.get(f"/tasks/{first['task_id']}/why").json()
    assert "lost_message" not in [cause["kind"] for cause in why["causes"]]
    assert platform.sent("analytics") == []


def test_a_throttled_submission_is_answered_with_the_task_of_the_period(api: Api, platform: Platform) -> None:
    (status, first), (again_status, again) = answers(api, THROTTLE, 1, 2)

    assert (status, again_status, again["outcome"]) == (202, 200, "throttled")
    assert platform.sent("analytics") == [first["task_id"]] == [again["task_id"]]


def test_the_newest_task_of_a_key_stops_the_others(api: Api, platform: Platform) -> None:
    first = submit(api, key="ada")
    batch = api.http.post("/tasks/batch", json={"tasks": [{"name": REPORT, "key": "ada", "if_busy": "newest"}]}).json()
    (new,) = batch["tasks"]

    assert (new["created"], new["outcome"], new["replaced"], batch["created"]) == (True, "replaced", [first], 1)
    assert platform.sent("analytics") == [new["task_id"]]
    dropped = api.http.post("/tasks", json={"name": REPORT, "key": "ada", "if_busy": "drop"})
    assert (dropped.status_code, dropped.json()["outcome"]) == (200, "dropped")
    assert dropped.json()["task_id"] == new["task_id"]


def test_a_declared_rule_holds_for_submissions_from_outside(
    api: Api, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_spec(monkeypatch, replace(registry[REPORT], key="hours", if_busy=IfBusy.NEWEST))
    first, other, second = (submit(api, REPORT, {"hours": hours}) for hours in (1, 2, 1))

    assert platform.state(first) is TaskState.CANCELLED
    assert platform.sent("analytics") == [other, second]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"debounce": {"seconds": 5}}, "debounce needs a key: give debounce_key, or key"),
        ({**DEBOUNCE, **THROTTLE}, "give only one of debounce, throttle"),
        ({**DEBOUNCE, "delay": 5}, "give debounce, or delay or at, not both"),
        ({"if_busy": "newest"}, "if_busy needs the ordering key"),
        ({**DEBOUNCE, "durability": "disk"}, "does not support uniqueness or durability"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(api: Api, rule: dict[str, Any], sentence: str) -> None:
    details = problem(api.http.post("/tasks", json={"name": REPORT, **rule}), 422)
    assert sentence in details["detail"]


@pytest.mark.parametrize("rule", [{"debounce": {"key": "a", "seconds": 0}}, {"throttle": {}}, {"if_busy": "queue"}])
def test_a_rule_of_another_form_is_refused(api: Api, rule: dict[str, Any]) -> None:
    problem(api.http.post("/tasks", json={"name": REPORT, **rule}), 422)


def test_stopping_others_needs_the_scope_to_do_so_and_stays_within_the_tenant(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    submits = bearer(api, Scope.SUBMIT)
    acme, other = (bearer(api, Scope.SUBMIT, Scope.OPERATE, tenant=tenant) for tenant in ("acme", "other"))
    newest = {"name": REPORT, "key": "ada", "if_busy": "newest"}
    debounced = {"name": REPORT, **DEBOUNCE}

    assert api.http.post("/tasks", json=newest, headers=submits).status_code == 403
    assert api.http.post("/tasks", json=newest | {"if_busy": "drop"}, headers=submits).status_code == 202
    for body in (newest, debounced):
        made = [api.http.post("/tasks", json=body, headers=tenant).json() for tenant in (acme, other)]
        assert [each["outcome"] for each in made] == ["accepted", "accepted"]
