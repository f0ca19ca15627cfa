"""`GET /metrics` is OpenMetrics, for callers who may read, and shows every metric that is documented."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from laneway.api import event_loop_lag
from laneway.api.event_loop_lag import longest_lag, watched_event_loop
from laneway.api.exposition import DEFINITIONS, exposition
from laneway.platform.access.token_rights import TokenRights
from laneway.platform.metrics.readings import Readings
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import REPORT, Api, submit
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform


def scraped(api: Api, **headers: str) -> dict[str, Any]:
    """Metric → its family, as a strict parser reads them."""
    answer = api.http.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families: Any = text_string_to_metric_families(answer.text)
    return {family.name: family for family in families}


def value(families: dict[str, Any], sample: str, **labels: str) -> float:
    """The value of the one sample with these labels."""
    found = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    assert len(found) == 1, (sample, labels, found)
    return found[0]


def test_every_metric_is_shown_with_its_kind_and_labels(api: Api, platform: Platform) -> None:
    platform.alive()
    submit(api)
    platform.work("analytics")
    platform.recorder.catch_up()

    families = scraped(api)

    left_out = {"laneway_api_event_loop_lag_seconds"}  # this application was not started by a server
    left_out |= {each.name for each in DEFINITIONS if "_canary_" in each.name}  # and tests have no canaries
    assert [*families] == [each.name for each in DEFINITIONS if each.name not in left_out]
    for definition in DEFINITIONS:
        if definition.name in left_out:
            continue
        family = families[definition.name]
        labels = {name for sample in family.samples for name in sample.labels} - {"le", "version"}
        assert (family.type, labels) == (definition.kind, set(definition.labels)), definition.name


def test_a_task_is_followed_from_its_submission_to_its_end(api: Api, platform: Platform) -> None:
    task = {"queue": "analytics", "task": REPORT}
    submit(api)
    platform.recorder.catch_up()
    before = scraped(api)
    assert value(before, "laneway_queue_tasks", queue="analytics", state="waiting") == 1
    assert value(before, "laneway_tasks_enqueued_total", **task) == 1
    assert value(before, "laneway_tasks_finished_total", state="completed", **task) == 0

    platform.work("analytics")
    platform.recorder.catch_up()
    after = scraped(api)

    assert value(after, "laneway_queue_tasks", queue="analytics", state="waiting") == 0
    assert value(after, "laneway_tasks_finished_total", state="completed", **task) == 1
    assert value(after, "laneway_attempts_ended_total", outcome="completed", **task) == 1
    for histogram in ("laneway_task_waiting_seconds", "laneway_task_running_seconds"):
        assert value(after, f"{histogram}_count", **task) == 1
        assert value(after, f"{histogram}_bucket", le="+Inf", **task) == 1
        assert 0 <= value(after, f"{histogram}_sum", **task) < 10
    assert value(after, "laneway_queue_messages_total", queue="analytics", event="acked") == 1


@ONE_DATABASE
def test_only_who_may_read_everything_sees_the_metrics(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")

    def bearer(name: str, scope: str, **bound: Any) -> str:
        rights = TokenRights(scopes=frozenset({scope}), **bound)
        return f"Bearer {api.services.tokens.create(name, rights, expires=None).token}"

    assert api.http.get("/metrics").status_code == 401
    assert api.http.get("/metrics", headers={"Authorization": bearer("leads", "leads")}).status_code == 403
    bound = bearer("bound", "tasks:read", queues=frozenset({"analytics"}))
    assert api.http.get("/metrics", headers={"Authorization": bound}).status_code == 403
    assert value(scraped(api, Authorization=bearer("prometheus", "tasks:read")), "laneway_broker_up") == 1


def test_without_the_broker_the_rest_is_shown(api: Api, platform: Platform) -> None:
    platform.valkey.stop()
    try:
        families = scraped(api)
    finally:
        platform.valkey.start()

    assert (value(families, "laneway_broker_up"), value(families, "laneway_database_up")) == (0, 1)
    assert "laneway_tasks_enqueued" not in families and "laneway_workers" in families


def test_without_anything_there_is_a_text_all_the_same() -> None:
    families: Any = text_string_to_metric_families(exposition(Readings(None, None, 0.1), event_loop_lag=0.25).decode())
    found = {family.name: family for family in families}

    assert value(found, "laneway_database_up") == value(found, "laneway_broker_up") == 0
    assert value(found, "laneway_api_event_loop_lag_seconds") == 0.25


# --- the event loop -----------------------------------------------------------------------------------------


def test_what_blocks_the_event_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop_lag, "EVERY", 0.01)

    async def block() -> tuple[float | None, float | None]:
        before = longest_lag()
        async with watched_event_loop():
            await asyncio.sleep(0.02)
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                pass
            await asyncio.sleep(0.02)
            return before, longest_lag()

    before, lag = asyncio.run(block())

    assert before is None
    assert lag is not None and 0.2 < lag < 10
