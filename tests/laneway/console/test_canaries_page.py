"""The console's page of canaries: latency by queue, and what a late one waits for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from laneway.console.pages.canaries import lines_of
from laneway.platform import clock
from laneway.platform.celery_app import make_celery
from laneway.platform.db.models import QueueSample
from laneway.platform.db.queries import task_runs
from laneway.platform.library_schedules import CANARY
from laneway.platform.schedules.keeping import keep
from laneway.platform.settings import ProbeSettings
from laneway.platform.submission.acceptance import SubmitOptions
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import Api
from tests.fixtures.console_pages import Page
from tests.fixtures.emptied import ONE_DATABASE
from tests.laneway.api.test_access import bearer

QUEUE = "crm"


def store_schedules(api: Api) -> None:
    settings = api.services.settings.model_copy(update={"probes": ProbeSettings(CANARY_SECONDS=60)})
    with make_celery("canaries", settings) as app:
        keep(api.services.database, dict(app.conf.beat_schedule))


def send(api: Api) -> str:
    return api.services.tasks.submit(CANARY, {"queue": QUEUE}, options=SubmitOptions(queue=QUEUE)).task_id


def test_the_page_says_how_long_the_canary_of_each_queue_took_and_what_a_late_one_waits_for(
    api: Api, page: Page
) -> None:
    store_schedules(api)
    assert "none has ended yet" in page("/console/canaries")
    id = send(api)
    assert "under way" in page("/console/canaries")
    with api.services.database.transaction() as session:
        task_runs.get(session, id).accepted_at = clock.now() - timedelta(minutes=20)
    api.services.queue_limits.pause(QUEUE)
    text = page("/console/canaries")
    assert ">late<" in text and "It waits for its queue &#39;crm&#39; to be resumed" in text and "What to do" in text
    assert f'href="/console/tasks/{id}"' in text

    api.services.queue_samples.take_if_due()
    series = api.services.queue_samples.canaries(timedelta(hours=1))
    assert [each // 600_000 for each in series[QUEUE] if each is not None] == [2] and len(series[QUEUE]) in (60, 61)
    assert 'aria-label="from 20 min' in page("/console/canaries")


@ONE_DATABASE
def test_the_slowest_canary_of_each_part_of_the_week_is_kept(api: Api) -> None:
    now = clock.now().replace(second=0, microsecond=0)
    figures: dict[str, Any] = dict.fromkeys(("waiting", "running", "scheduled", "held", "dead", "workers"), 0)
    figures |= {"oldest_seconds": None, "paused": False, "accepted": 0, "completed": 0, "failed": 0}
    with api.services.database.transaction() as session:
        for minutes, latency in ((30, 5), (29, None), (28, 70), (9000, 9)):
            minute = now - timedelta(minutes=minutes)
            session.add(QueueSample(queue=QUEUE, minute=minute, canary_ms=latency, **figures))
    hour = api.services.queue_samples.canaries(timedelta(hours=1))[QUEUE]
    assert [each for each in hour if each is not None] == [5, 70] and hour[hour.index(5) + 1] is None
    week = api.services.queue_samples.canaries(timedelta(days=7))[QUEUE]
    assert [each for each in week if each is not None] == [9, 70] and len(week) <= 121


def test_without_canaries_the_page_says_how_there_are_some(make_api: MakeApi) -> None:
    api = make_api(CANARY_SECONDS="0")
    assert "CANARY_SECONDS is 0" in api.http.get("/console/canaries").text
    assert api.http.get("/console/canaries?range=2h").status_code == 422


@ONE_DATABASE
def test_only_readers_see_the_page(make_api: MakeApi) -> None:
    api = make_api(AUTHENTICATION="on")
    assert api.http.get("/console/canaries", headers=bearer(api, "tasks:submit")).status_code == 403


@pytest.mark.parametrize(
    ("points", "path"),
    [((), ""), ((None,), ""), ((4,), "M0.0 2.0h1"), ((0, 4, None, 2), "M0.0 26.0h1L80.0 2.0M240.0 14.0h1")],
)
def test_a_chart_has_gaps(points: tuple[int | None, ...], path: str) -> None:
    assert lines_of(points) == path
