"""Reports over HTTP: requested, computed by a worker, listed and fetched."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.platform.db.models import TaskRun
from laneway.schemas.task import TaskState
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api, problem
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.site import Site


@pytest.mark.parametrize(
    ("kind", "stored"), [("conversations", "conversation_analytics"), ("performance", "performance")]
)
def test_a_report_is_computed_and_can_be_fetched(live: Site, kind: str, stored: str) -> None:
    accepted = live.http.post("/analytics/reports", json={"kind": kind, "hours": 48})

    assert accepted.status_code == 202
    task = accepted.json()["task_id"]
    live.until(task, TaskState.COMPLETED)
    report = live.get(f"/analytics/reports/{task}")
    assert (report["id"], report["kind"]) == (task, stored)
    assert report["period_start"] < report["period_end"]
    assert report["data"]
    listed = live.get(f"/analytics/reports?kind={stored}")["reports"]
    assert task in [head["id"] for head in listed]
    assert {head["kind"] for head in listed} == {stored}


def test_a_report_covers_the_requested_period(live: Site) -> None:
    body = {"kind": "conversations", "start": "2026-01-01T00:00:00+01:00", "end": "2026-02-01T00:00:00Z"}
    task = live.post("/analytics/reports", body)["task_id"]
    live.until(task, TaskState.COMPLETED)

    report = live.get(f"/analytics/reports/{task}")
    assert (report["period_start"], report["period_end"]) == ("2025-12-31T23:00:00Z", "2026-02-01T00:00:00Z")
    assert report["data"]["conversations_opened"] == 0


@ONE_DATABASE
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "weather"},
        {"kind": "performance", "hours": 0},
        {"kind": "performance", "hours": 24 * 366 + 1},
        {"kind": "performance", "hours": 10**30},
        {"kind": "performance", "hours": "24"},
        {"kind": "performance", "hours": 1.5},
        {"kind": "performance", "days": 3},
        {"kind": "performance", "start": "yesterday"},
        {"kind": "performance", "start": "2026-01-01T00:00:00"},
        {"kind": "performance", "start": "2026-01-01"},
        {"kind": "performance", "start": 1_700_000_000},
        {"kind": "performance", "start": "0001-01-01T00:00:00+14:00"},
        {"kind": "performance", "end": "9999-12-31T23:59:59-14:00"},
        {"kind": "performance", "start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
        {"kind": "performance", "start": "2199-01-01T00:00:00Z"},
    ],
)
def test_an_impossible_report_request_is_refused(api: Api, body: dict[str, Any]) -> None:
    problem(api.http.post("/analytics/reports", json=body), 422)
    assert api.count(TaskRun) == 0


def test_a_full_queue_of_reports_answers_with_retry_after(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="1")
    assert api.http.post("/analytics/reports", json={"kind": "performance"}).status_code == 202

    refused = api.http.post("/analytics/reports", json={"kind": "performance"})
    problem(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize("id", ["nothing", "a%0Ab", "%ff"])
def test_a_report_that_was_never_computed_is_unknown(api: Api, id: str) -> None:
    problem(api.http.get(f"/analytics/reports/{id}"), 404)


@ONE_DATABASE
@pytest.mark.parametrize("query", ["kind=weather", "kind=", "limit=0", "limit=201", "limit=x"])
def test_an_invalid_list_query_is_refused(api: Api, query: str) -> None:
    problem(api.http.get(f"/analytics/reports?{query}"), 422)


def test_an_invalid_report_id_is_refused(api: Api) -> None:
    problem(api.http.get("/analytics/reports/%00"), 422)
