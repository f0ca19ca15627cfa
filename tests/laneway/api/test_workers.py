"""The routes /workers and /task-names, the alerts in /stats, and the events that exist now."""

from __future__ import annotations

from datetime import timedelta

from laneway.platform import clock
from laneway.platform.db.models import Worker
from laneway.platform.db.queries import workers
from laneway.platform.registry import registry
from tests.fixtures.api_calls import REPORT, Api, submit
from tests.fixtures.platform import Platform


def report(api: Api, name: str, *, id: str, seconds_ago: float = 0, started_ago: float = 60) -> None:
    """Store the report of a worker."""
    now = clock.now()
    with api.services.database.transaction() as session:
        workers.report(
            session,
            name,
            id=id,
            queues=["analytics", "crm"],
            started_at=now - timedelta(seconds=started_ago),
            now=now - timedelta(seconds=seconds_ago),
            host="host-1",
            version="1.2.3",
            memory=327_155_712,
            leases=12,
            disk_free=62.5,
        )


def test_workers_are_listed_with_what_they_run_and_silent_ones_are_marked(api: Api, platform: Platform) -> None:
    assert api.http.get("/workers").json() == {"workers": []}
    id = submit(api)
    platform.start("analytics", worker="w@here")
    report(api, "w@here", id="new")
    report(api, "w@here", id="old", seconds_ago=50, started_ago=100)
    report(api, "gone@here", id="gone", seconds_ago=60)
    with api.services.database.transaction() as session:
        workers.note_end(session, "gone@here", how="killed by signal 9")
    gone, new, old = api.http.get("/workers").json()["workers"]

    assert (new["name"], new["host"], new["version"], new["queues"]) == (
        "w@here",
        "host-1",
        "1.2.3",
        ["analytics", "crm"],
    )
    assert (new["running"], new["alive"], new["ended"]) == ([id], True, None)
    assert (new["memory"], new["leases"], new["disk_free"]) == (327_155_712, 12, 62.5)
    assert (old["running"], old["alive"]) == ([], False), "a task runs on the newest worker of a name"
    assert (gone["alive"], gone["ended"]) == (False, "killed by signal 9")


def test_a_worker_of_an_older_version_has_no_host_no_version_and_no_figures(api: Api) -> None:
    now = clock.now()
    with api.services.database.transaction() as session:
        session.add(Worker(id="x", name="w@old", queues=[], started_at=now, seen_at=now))
    (worker,) = api.http.get("/workers").json()["workers"]

    assert (worker["host"], worker["version"], worker["alive"]) == ("", "", True)
    assert (worker["memory"], worker["leases"], worker["disk_free"]) == (None, None, None)


def test_the_names_of_tasks_are_listed_with_their_queues(api: Api) -> None:
    names = api.http.get("/task-names").json()["names"]

    assert {"name": REPORT, "queue": "analytics"} in names
    assert [each["name"] for each in names] == sorted(name for name in registry if not registry.is_internal(name))


def test_stats_name_the_open_alerts(api: Api) -> None:
    submit(api)
    api.services.alerts.sweep()
    alerts = [alert["message"] for alert in api.http.get("/stats").json()["alerts"]]

    assert any(each.startswith("1 task waits in the queue 'analytics', which no live worker") for each in alerts)


def test_events_that_exist_now_are_returned_without_waiting_for_more(api: Api) -> None:
    id = submit(api)
    answer = api.http.get(f"/tasks/{id}/events", params={"follow": "false"})

    assert answer.status_code == 200
    assert [line for line in answer.text.split("\n") if line.startswith("event: ")] == ["event: accepted", "event: put"]


def test_alerts_are_listed_with_their_severity_and_closed_ones_on_request(api: Api) -> None:
    id = api.http.post("/tasks", json={"name": REPORT, "payload": {}}).json()["task_id"]
    api.services.alerts.sweep()
    (alert,) = (each for each in api.http.get("/alerts").json()["alerts"] if each["kind"] == "no_worker")
    assert (alert["subject"], alert["severity"], alert["closed_at"]) == ("analytics", "severe", None)
    assert "Start a worker: " in alert["message"]

    api.services.tasks.cancel(id)
    api.services.alerts.sweep()
    assert "no_worker" not in {each["kind"] for each in api.http.get("/alerts").json()["alerts"]}
    assert "no_worker" in {each["kind"] for each in api.http.get("/alerts?closed=true").json()["alerts"]}
