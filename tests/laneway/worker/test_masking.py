"""What workers tell about themselves has no logins of addresses."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.app import utils
from celery.worker import control

from laneway.worker.masking import mask_settings, mask_stats, masked_values


def test_logins_are_masked_wherever_an_address_is() -> None:
    told = {
        "hostname": "rediss://u:hunter2@db:6379/0?password=hunter2&a=1",
        "alternates": ["redis://:hunter2@x/1"],
        "n": 1,
    }

    assert masked_values(told) == {
        "hostname": "rediss://db:6379/0?password=[redacted]&a=1",
        "alternates": ["redis://x/1"],
        "n": 1,
    }


def test_a_worker_tells_its_statistics_without_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"broker": {"hostname": "redis://:hunter2@x/0"}, "pid": 1}
    monkeypatch.setitem(control.Panel.data, "stats", lambda _: told)
    monkeypatch.setitem(control.Panel.meta, "stats", control.Panel.meta["stats"])
    mask_stats()
    mask_stats()

    assert control.Panel.data["stats"](None) == {"broker": {"hostname": "redis://x/0"}, "pid": 1}


def test_a_report_hides_addresses_that_celery_does_not_know() -> None:
    mask_settings()
    mask_settings()
    app = Celery("shop", set_as_current=False)
    app.conf.update(redbeat_redis_url="redis://:hunter2@x/0", broker_url="redis://:hunter2@x/0")

    assert "hunter2" not in app.conf.humanize(with_defaults=True) + app.bugreport()
    assert "redbeat_redis_url" in app.conf.humanize()
    assert utils.HIDDEN_SETTINGS.pattern.count("REDIS_URL") == 1
