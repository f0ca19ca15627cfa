"""Signals to tasks, and the pause of workflows, over HTTP."""

from __future__ import annotations

import pytest

from laneway.platform.db.models import TaskSignal
from tests.fixtures.api_calls import Api
from tests.fixtures.emptied import ONE_DATABASE

pytestmark = ONE_DATABASE


def test_a_signal_is_kept_once_and_refused_for_what_is_over(api: Api) -> None:
    id = api.services.tasks.submit("cleanup_old_data_task", {}).task_id
    address = f"/tasks/{id}/signals/approve"

    sent = api.http.post(address, json={"data": {"by": "Ada"}})
    again = api.http.post(address, json={"data": {"by": "Ada"}})
    assert (sent.status_code, sent.json()) == (
        *(202, {"task_id": id, "signal": "approve", "created": True, "awaited": False}),
    )
    assert again.json()["created"] is False
    assert api.http.post(address, json={"data": {}}).status_code == 409
    assert api.http.post("/tasks/nobody/signals/approve").status_code == 404
    assert api.http.post(address, json={"date": {}}).status_code == 422
    with api.services.database.reading() as session:
        assert [row.data for row in session.query(TaskSignal)] == [{"by": "Ada"}]

    api.services.tasks.cancel(id)
    refused = api.http.post(f"/tasks/{id}/signals/other")
    assert (refused.status_code, "it cannot be sent a signal" in refused.text) == (409, True)


def test_a_signal_that_no_database_accepts_is_refused(api: Api) -> None:
    id = api.services.tasks.submit("cleanup_old_data_task", {}).task_id
    address = f"/tasks/{id}/signals/approve"
    for text in ('{"data": {"n": 1e999}}', '{"data": {"text": "\\ud800"}}'):
        assert api.http.post(address, content=text, headers={"content-type": "application/json"}).status_code == 422
    deep = '{"data": {"a": ' + "[" * 150 + "]" * 150 + "}}"
    assert api.http.post(address, content=deep, headers={"content-type": "application/json"}).status_code == 422


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_an_unknown_workflow_cannot_be_paused(api: Api, action: str) -> None:
    assert api.http.post(f"/api/workflows/nobody/{action}").status_code == 404
