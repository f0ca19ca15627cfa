"""POST /tasks is answered directly as the route would answer it, and for each of many callers at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select

from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import MAX_BODY, MESSAGE, REPORT, Api, at_once
from tests.fixtures.emptied import ONE_DATABASE

BODIES: dict[str, Any] = {
    "plain": {"name": REPORT, "payload": {"hours": 3}},
    "other spelling": {"type": REPORT},
    "all options": {"name": REPORT, "priority": "high", "delay": 60, "expires": 3600, "tags": ["a", "b"], "key": "k"},
    "unique": {"name": REPORT, "unique": {"key": "nightly-@", "seconds": 60}},
    "debounce": {"name": REPORT, "debounce": {"key": "d-@", "seconds": 5}},
    "if busy": {"name": REPORT, "key": "k-@", "if_busy": "drop"},
    "unknown name": {"name": "nothing_like_it"},
    "internal": {"name": "settle_workflow_step_task", "payload": {}},
    "reserved id": {"name": REPORT, "id": "message:1"},
    "wrong payload": {"name": REPORT, "payload": {"hours": "many"}},
    "unknown field": {"name": REPORT, "colour": "red"},
    "no name": {"payload": {}},
    "not an object": [1, 2],
    "wrong type": {"name": REPORT, "delay": "soon"},
    "NaN": '{"name": "generate_performance_report_task", "delay": NaN}',
    "not JSON": "{",
    "too deep": "[" * 5000,
    "empty": "",
    "too large": '{"name": "' + "x" * MAX_BODY + '"}',
}


def post(api: Api, body: Any, **more: Any) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return api.http.post("/tasks", content=text, headers={"Content-Type": "application/json"}, **more)


def comparable(answer: Any) -> tuple[int, Any]:
    """The response without what differs between two of them."""
    body = answer.json()
    return answer.status_code, {name: value for name, value in body.items() if name not in ("task_id", "request_id")}


@pytest.mark.parametrize("kind", BODIES)
@ONE_DATABASE
def test_the_answer_is_that_of_the_route(api: Api, kind: str) -> None:
    text = BODIES[kind] if isinstance(BODIES[kind], str) else json.dumps(BODIES[kind])

    routed = comparable(post(api, text.replace("@", "1"), params={"forecast": "false"}))

    assert comparable(post(api, text.replace("@", "2"))) == routed


def test_each_of_many_callers_gets_its_own_answer_and_its_own_row(api: Api) -> None:
    bodies = [
        {"name": MESSAGE, "payload": {"conversation_id": f"c-{n}", "message": "Hi"}, "id": f"m-{n}"} for n in range(30)
    ]
    wrong = [{"name": MESSAGE, "payload": {"conversation_id": f"w-{n}"}} for n in range(10)]
    twice = [{"name": REPORT, "payload": {"hours": hours}, "id": "same"} for hours in (1, 1, 2)]

    answers = at_once(api, [("POST", "/tasks", body) for body in (*bodies, *wrong, *twice)])

    statuses = [answer.status_code for answer, _ in answers]
    assert statuses[:40] == [202] * 30 + [422] * 10
    assert [answer.json()["task_id"] for answer, _ in answers[:30]] == [body["id"] for body in bodies]
    assert sorted(statuses[40:]) in ([200, 202, 409], [202, 409, 409])
    assert api.count(TaskRun) == 31
    with api.database.reading() as session:
        requests = dict(session.execute(select(TaskRun.id, TaskRun.request_id)).all())
    ids = {answer.json()["task_id"]: answer.headers["x-request-id"] for answer, _ in answers[:30]}
    assert {id: requests[id] for id in ids} == ids


def test_what_comes_in_together_is_stored_and_sent_together(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    publish_many = Broker.publish_many

    def counting(broker: Broker, runs: Sequence[TaskRun]) -> Any:
        sizes.append(len(runs))
        return publish_many(broker, runs)

    monkeypatch.setattr(Broker, "publish_many", counting)

    answers = at_once(api, [("POST", "/tasks", {"name": REPORT}) for _ in range(60)])

    assert {answer.status_code for answer, _ in answers} == {202}
    assert sum(sizes) == 60
    assert len(sizes) < 30, "most of them waited for the first, and went together"


def test_a_refusal_of_the_broker_is_that_of_the_one_whom_it_refuses(make_api: MakeApi) -> None:
    api = make_api(MAX_QUEUE_SIZE="3")

    answers = at_once(api, [("POST", "/tasks", {"name": REPORT}) for _ in range(8)])

    assert sorted(answer.status_code for answer, _ in answers) == [202] * 3 + [429] * 5
    assert api.count(TaskRun) == 3


def test_one_that_the_broker_must_confirm_is_accepted_beside_the_others(api: Api) -> None:
    unique = {"name": REPORT, "unique": {"key": "nightly", "seconds": 60}}

    answers = at_once(api, [("POST", "/tasks", body) for body in ({"name": REPORT}, unique, unique, {"name": REPORT})])

    assert [answers[index][0].status_code for index in (0, 3)] == [202, 202]
    assert sorted(answers[index][0].status_code for index in (1, 2)) == [202, 409]
