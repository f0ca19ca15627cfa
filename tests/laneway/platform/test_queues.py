"""Queues are declared once, with their lanes and workers."""

from __future__ import annotations

from collections import Counter

import pytest

from laneway.platform import celery_app
from laneway.platform import queues as module
from laneway.platform.errors import ConfigError
from laneway.platform.queues import Lane, LaneCycle, Queues, WorkerGroup, declare_queues
from laneway.platform.settings import Settings, load_settings

LANES = {"conversations": Lane.HIGH, "webhooks": Lane.MEDIUM, "reports": Lane.LOW}


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Queues:
    """The declared queues of this process, empty."""
    queues = Queues()
    monkeypatch.setattr(module, "queues", queues)
    return queues


def test_queues_keep_their_order_and_the_last_one_is_the_default(queues: Queues) -> None:
    declare_queues(LANES)

    assert dict(queues) == LANES
    assert list(queues) == list(LANES)
    assert queues.default == "reports"


def test_without_declared_workers_one_serves_all_queues(queues: Queues) -> None:
    declare_queues(LANES)

    assert queues.workers == (WorkerGroup("worker", tuple(LANES)),)
    assert queues.worker("worker").concurrency is None


def test_a_second_declaration_replaces_the_first(queues: Queues) -> None:
    declare_queues(LANES)
    declare_queues({"mail": Lane.LOW}, workers=[WorkerGroup("mailer", ("mail",), concurrency=4)])

    assert list(queues) == ["mail"]
    assert [group.name for group in queues.workers] == ["mailer"]


def test_a_worker_of_an_undeclared_queue_is_refused_and_changes_nothing(queues: Queues) -> None:
    declare_queues(LANES)

    with pytest.raises(ConfigError, match="The worker 'mailer' serves 'mail', which is not a declared queue"):
        declare_queues(LANES, workers=[WorkerGroup("mailer", ("mail",))])

    assert [group.name for group in queues.workers] == ["worker"]


def test_an_unknown_worker_is_answered_with_the_known_ones(queues: Queues) -> None:
    declare_queues(LANES)

    with pytest.raises(ConfigError, match="There is no worker 'mailer'; there are worker"):
        queues.worker("mailer")


def test_without_queues_the_default_queue_has_its_usual_name(queues: Queues) -> None:
    assert queues.default == "default"


def test_without_queues_no_celery_app_is_made(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_app, "queues", queues)

    with pytest.raises(ConfigError, match="No queue is declared: call declare_queues"):
        celery_app.make_celery("shop", load_settings(Settings))


def test_a_worker_looks_into_all_queues_and_most_often_into_the_high_lane_first(queues: Queues) -> None:
    declare_queues(LANES)
    cycle = LaneCycle(LANES)

    orders = [cycle.consume(3) for _ in range(3000)]

    assert all(sorted(order) == sorted(LANES) for order in orders)
    first = Counter(order[0] for order in orders)
    assert 0.55 < first["conversations"] / 3000 < 0.65
    assert 0.25 < first["webhooks"] / 3000 < 0.35
    assert 0.06 < first["reports"] / 3000 < 0.14


def test_a_cycle_takes_new_queues_and_an_unknown_one_counts_as_low(queues: Queues) -> None:
    declare_queues(LANES)
    cycle = LaneCycle()
    assert cycle.consume(5) == []

    cycle.update(["foreign"])
    cycle.rotate("foreign")

    assert cycle.consume(5) == ["foreign"]
