"""Quotas of tokens and queues, and the memory of the broker, at the API."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from redis import Redis

from laneway.api.access import REFUSAL_SECONDS
from laneway.platform.access.caller import Caller
from laneway.platform.access.quota_errors import QuotaExceeded
from laneway.platform.access.quotas import Quotas
from laneway.platform.access.scopes import Scope
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.db.models import TaskRun
from laneway.platform.settings import QuotaSettings
from laneway.platform.settings.quotas import Quota
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api
from tests.fixtures.valkey import RunningValkey
from tests.fixtures.waiting import wait_until

SUBMIT = {"name": REPORT, "payload": {"hours": 1}}
QUEUE = "analytics"


def token(api: Api, name: str) -> dict[str, str]:
    """The header of a new token."""
    made = api.services.tokens.create(
        name, TokenRights(scopes=frozenset({Scope.SUBMIT, Scope.READ})), expires=timedelta(days=1)
    )
    return {"Authorization": f"Bearer {made.token}"}


def quotas_api(make_api: MakeApi, **quotas: dict[str, int]) -> Api:
    """The API with quotas; `token_x` stands for `token:x`."""
    return make_api(
        AUTHENTICATION="on", QUOTAS=json.dumps({name.replace("_", ":"): quota for name, quota in quotas.items()})
    )


def test_a_token_that_sends_too_many_requests_is_told_so_and_no_other_one_is(make_api: MakeApi) -> None:
    api = quotas_api(make_api, token_busy={"requests": 3})
    busy, calm = token(api, "busy"), token(api, "calm")

    answers = [api.http.get("/workers", headers=busy) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].elapsed.total_seconds() >= REFUSAL_SECONDS
    problem = answers[-1].json()
    assert problem["type"] == "urn:laneway:problem:quota-exceeded"
    assert "the token 'busy' is used up: 3 requests a minute" in problem["detail"]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert api.http.get("/workers", headers=calm).status_code == 200


def test_a_token_has_a_quota_of_tasks_that_counts_each_task_of_a_batch(make_api: MakeApi) -> None:
    api = quotas_api(make_api, token_busy={"tasks": 4})
    busy, calm = token(api, "busy"), token(api, "calm")

    assert api.http.post("/tasks/batch", json={"tasks": [SUBMIT] * 3}, headers=busy).status_code == 202
    refused = api.http.post("/tasks/batch", json={"tasks": [SUBMIT] * 2}, headers=busy)

    assert refused.status_code == 429
    assert "4 tasks a minute" in refused.json()["detail"]
    assert api.count(TaskRun) == 3
    assert api.http.post("/tasks", json=SUBMIT, headers=calm).status_code == 202
    never = api.http.post("/tasks/batch", json={"tasks": [SUBMIT] * 5}, headers=busy)
    assert (never.status_code, never.json()["title"]) == (413, "Over quota")


def test_a_queue_has_a_quota_of_tasks_for_all_tokens_together(make_api: MakeApi) -> None:
    api = quotas_api(make_api, **{f"queue_{QUEUE}": {"tasks": 2}})
    one, other = token(api, "one"), token(api, "other")

    answers = [api.http.post("/tasks", json=SUBMIT, headers=who) for who in (one, other, one)]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert "the queue 'analytics' is used up: 2 tasks a minute" in answers[-1].json()["detail"]
    assert api.count(TaskRun) == 2


def test_a_token_and_a_queue_have_a_quota_of_bytes(make_api: MakeApi) -> None:
    api = quotas_api(make_api, token_busy={"bytes": 12}, **{f"queue_{QUEUE}": {"bytes": 40}})
    busy, calm = token(api, "busy"), token(api, "calm")  # the payload {"hours":1} has 11 bytes

    assert api.http.post("/tasks", json=SUBMIT, headers=busy).status_code == 202
    of_token = api.http.post("/tasks", json=SUBMIT, headers=busy)
    assert (of_token.status_code, "the token 'busy'" in of_token.json()["detail"]) == (429, True)
    assert [api.http.post("/tasks", json=SUBMIT, headers=calm).status_code for _ in range(3)] == [202, 202, 429]
    of_queue = api.http.post("/tasks", json=SUBMIT, headers=calm)
    assert f"the queue '{QUEUE}' is used up: 40 bytes a minute" in of_queue.json()["detail"]
    assert api.count(TaskRun) == 3


def test_processes_count_together_and_a_window_ends_after_a_minute(api: Api, valkey: RunningValkey) -> None:
    settings = QuotaSettings(own={"token:ci": Quota(tasks=2)})
    ci = Caller(kind="token", name="ci")
    one, other = Quotas(settings, api.services.broker), Quotas(settings, api.services.broker)
    one.count_tasks(ci, {QUEUE: (1, 10)})
    other.count_tasks(ci, {QUEUE: (1, 10)})

    with pytest.raises(QuotaExceeded) as refused:
        one.count_tasks(ci, {QUEUE: (1, 10)})

    assert 50 < refused.value.seconds <= 60
    client = Redis.from_url(valkey.url(0))
    keys = list(client.scan_iter(match="*laneway:quota:*"))
    assert keys
    assert all(0 < client.ttl(key) <= 60 for key in keys)  # none is left behind
    for key in keys:
        client.pexpire(key, 1)
    wait_until(lambda: not client.exists(*keys), seconds=5)
    one.count_tasks(ci, {QUEUE: (1, 10)})
    client.close()


def test_a_broker_whose_memory_is_nearly_full_takes_no_tasks_and_nothing_is_stored(
    api: Api, valkey: RunningValkey
) -> None:
    client = Redis.from_url(valkey.url(0))
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", round(used * 1.2))
    try:
        refused = api.http.post("/tasks", json=SUBMIT)
        batch = api.http.post("/tasks/batch", json={"tasks": [SUBMIT]})
    finally:
        client.config_set("maxmemory", 0)

    assert refused.status_code == batch.status_code == 503
    assert refused.headers["Retry-After"] == "10"
    assert "raise BROKER_MAX_MEMORY" in refused.json()["detail"]
    assert api.count(TaskRun) == 0
    wait_until(lambda: api.http.post("/tasks", json=SUBMIT).status_code == 202, seconds=5)
    client.close()
