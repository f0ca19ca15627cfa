"""What workers tell about themselves has no logins of addresses."""

from __future__ import annotations

from celery import Celery
from celery.app import utils

from laneway.worker.masking import mask_settings, masked_values


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


def test_a_report_hides_addresses_that_celery_does_not_know() -> None:
    mask_settings()
    mask_settings()
    app = Celery("shop", set_as_current=False)
    app.conf.update(redbeat_redis_url="redis://:hunter2@x/0", broker_url="redis://:hunter2@x/0")

    assert "hunter2" not in app.conf.humanize(with_defaults=True) + app.bugreport()
    assert "redbeat_redis_url" in app.conf.humanize()
    assert utils.HIDDEN_SETTINGS.pattern.count("REDIS_URL") == 1
