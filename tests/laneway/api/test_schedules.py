"""`/schedules`: list, show, make, change, delete, pause, resume and run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab

from laneway.platform import clock
from laneway.platform.db.queries import schedules as queries
from laneway.platform.schedules.earlier_tasks import Earlier
from laneway.platform.schedules.entry import Schedule
from laneway.platform.schedules.keeping import keep
from laneway.platform.schedules.schedules import StillRunning
from tests.fixtures.api_calls import Api, problem

SWEEP = {"key": "sweep", "task": "cleanup_old_data_task", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}


def make(api: Api, **fields: Any) -> dict[str, Any]:
    made = api.http.post("/schedules", json=SWEEP | fields)
    assert made.status_code == 201, made.text
    return made.json()


def keep_code(api: Api) -> None:
    """Store a schedule of the code, as Beat does."""
    entry = Schedule("of-code", "cleanup_old_data_task", crontab(minute=0), "maintenance", 60)
    keep(api.services.database, {"of-code": entry.as_celery()})


def test_a_schedule_is_made_listed_and_shown_with_its_next_ten_firings(api: Api) -> None:
    made = make(api, missed="all", overlap="skip", payload={})
    assert made["source"] == "operator" and made["changed_by"] and made["when"] == "0 3 * * * Europe/Berlin"
    listed = api.http.get("/schedules").json()
    assert [each["key"] for each in listed["schedules"]] == ["sweep"]
    assert listed["beat_runs"] is False
    shown = api.http.get("/schedules/sweep").json()
    assert shown["definition"] | {"missed": "all", "overlap": "skip", "cron": "0 3 * * *"} == shown["definition"]
    assert len(shown["upcoming"]) == 10 and shown["upcoming"][0] == shown["next_at"] and shown["firings"] == []
    problem(api.http.get("/schedules/other"), 404)


def test_a_change_replaces_it_and_counts_from_now(api: Api) -> None:
    make(api)
    body = {"task": "cleanup_old_data_task", "every": 3600}
    changed = api.http.put("/schedules/sweep", json=body)
    assert (changed.status_code, changed.json()["when"]) == (200, "every 1:00:00")
    problem(api.http.put("/schedules/other", json=body), 404)
    assert api.http.delete("/schedules/sweep").status_code == 200
    problem(api.http.delete("/schedules/sweep"), 404)


def test_a_pause_stops_it_and_a_resume_makes_nothing_up(api: Api) -> None:
    make(api, cron="* * * * *")
    paused = api.http.post("/schedules/sweep/pause").json()
    assert paused["paused_by"] and paused["next_at"] is None
    assert api.http.get("/schedules/sweep").json()["upcoming"] == []
    with api.services.database.transaction() as session:
        row = queries.find(session, "sweep", lock=True)
        assert row is not None
        row.decided_until = clock.now() - timedelta(hours=1)
    resumed = api.http.post("/schedules/sweep/resume").json()
    assert resumed["paused_at"] is None and resumed["next_at"] > clock.now().isoformat()


def test_run_submits_its_task_at_once_and_is_among_the_last_firings(api: Api) -> None:
    make(api)
    ran = api.http.post("/schedules/sweep/run")
    assert ran.status_code == 202
    id = ran.json()["task_id"]
    assert id.startswith("schedule:sweep:")
    assert api.http.get(f"/tasks/{id}").json()["name"] == "cleanup_old_data_task"
    (firing,) = api.http.get("/schedules/sweep").json()["firings"]
    assert (firing["outcome"], firing["task_id"]) == ("sent", id)
    assert firing["asked_by"]


def test_a_schedule_of_the_code_is_paused_and_run_here_and_changed_there(api: Api) -> None:
    keep_code(api)
    assert api.http.post("/schedules/of-code/pause").status_code == 200
    assert api.http.post("/schedules/of-code/run").status_code == 202
    found = problem(api.http.put("/schedules/of-code", json={"task": "cleanup_old_data_task", "every": 60}), 409)
    assert "change it there" in found["detail"]
    problem(api.http.delete("/schedules/of-code"), 409)
    problem(api.http.post("/schedules", json=SWEEP | {"key": "of-code"}), 409)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"key": "a b"}, 422),
        ({"key": "x" * 101}, 422),
        ({"cron": "61 * * * *"}, 422),
        ({"cron": None}, 422),
        ({"every": 60}, 422),
        ({"timezone": "Mars"}, 422),
        ({"jitter": -1}, 422),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, 422),
        ({"task": "no_such_task"}, 404),
        ({"task": "tell_about_alerts_task"}, 403),
        ({"payload": {"nonsense": 1}}, 422),
        ({"queue": "nowhere"}, 422),
        ({"unknown": 1}, 422),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(fields: dict[str, Any], status: int, api: Api) -> None:
    body = {name: value for name, value in (SWEEP | fields).items() if value is not None}
    problem(api.http.post("/schedules", json=body), status)
    assert api.http.get("/schedules").json()["schedules"] == []


def test_a_key_is_used_once(api: Api) -> None:
    make(api)
    problem(api.http.post("/schedules", json=SWEEP), 409)


def test_secrets_in_a_payload_are_not_shown(api: Api) -> None:
    make(api)
    with api.services.database.transaction() as session:
        row = queries.find(session, "sweep", lock=True)
        assert row is not None
        row.definition = row.definition | {"payload": {"password": "hunter2"}}
    assert "hunter2" not in api.http.get("/schedules/sweep").text


def test_a_preview_says_when_it_would_fire_and_which_field_is_wrong(api: Api) -> None:
    found = api.http.post("/schedules/preview", json=SWEEP)
    assert (found.status_code, found.json()["when"], len(found.json()["upcoming"])) == (
        200,
        "0 3 * * * Europe/Berlin",
        10,
    )
    assert api.http.get("/schedules").json()["schedules"] == [], "nothing is stored"
    wrong = problem(api.http.post("/schedules/preview", json=SWEEP | {"cron": "61 * * * *", "timezone": "Mars"}), 422)
    assert [each["field"] for each in wrong["errors"]] == ["cron", "timezone"]
    wrong = problem(api.http.post("/schedules/preview", json=SWEEP | {"every": 60}), 422)
    assert wrong["errors"] == [{"field": "times", "problem": "give either cron or every"}]
    problem(api.http.post("/schedules/preview", json=SWEEP | {"task": "tell_about_alerts_task"}), 403)
    over = SWEEP | {"start": "2020-01-01T00:00:00Z", "end": "2020-02-01T00:00:00Z"}
    assert api.http.post("/schedules/preview", json=over).json()["upcoming"] == []


def ran(api: Api, query: str = "") -> str:
    answer = api.http.post(f"/schedules/sweep/run{query}")
    assert answer.status_code == 202, answer.text
    return answer.json()["task_id"]


def test_a_run_by_hand_respects_skip_unless_it_is_asked_to_run_beside(api: Api) -> None:
    make(api, overlap="skip")
    first = ran(api)
    found = problem(api.http.post("/schedules/sweep/run"), 409)
    assert first in found["detail"] and "beside" in found["detail"]
    assert len(api.http.get("/schedules/sweep").json()["firings"]) == 1

    ran(api, "?beside=true")
    api.http.post(f"/tasks/{first}/cancel")
    problem(api.http.post("/schedules/sweep/run"), 409)
    for firing in api.http.get("/schedules/sweep").json()["firings"]:
        api.http.post(f"/tasks/{firing['task_id']}/cancel")
    ran(api)


def test_a_run_by_hand_replaces_the_earlier_task_if_its_policy_says_so(api: Api) -> None:
    make(api, overlap="replace")
    first, second = ran(api), ran(api)
    states = [api.http.get(f"/tasks/{id}").json()["status"] for id in (first, second)]
    assert states[0] == "cancelled" and states[1] in ("pending", "accepted")
    entries = api.http.get("/audit-log?action=schedule.run").json()["entries"]
    assert entries[0]["after"]["replaced"] == [first]


def test_two_runs_by_hand_at_once_do_not_both_pass_skip(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    make(api, overlap="skip")
    schedules = api.services.schedules
    look, looked = schedules._earlier.of, list[str]()  # pyright: ignore[reportPrivateUsage]

    def look_and_be_overtaken(key: str) -> Earlier:
        found = look(key)
        if not looked:
            looked.append(key)
            schedules.run(key)
        return found

    monkeypatch.setattr(schedules._earlier, "of", look_and_be_overtaken)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StillRunning):
        schedules.run("sweep")
    assert len(api.http.get("/schedules/sweep").json()["firings"]) == 1
