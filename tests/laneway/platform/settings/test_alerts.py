"""Settings of alerts that cannot work are refused, and no error repeats an address."""

from __future__ import annotations

import json

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings, load_settings
from tests.fixtures.platform import Environment

SECRET = "hidden-4711"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"ALERT_RECEIVERS": f"slack://{SECRET}"}, "must be JSON"),
        ({"ALERT_RECEIVERS": json.dumps([SECRET])}, "must be a JSON object"),
        ({"ALERT_RECEIVERS": json.dumps({SECRET * 9: "json://x"})}, "at most 40 letters"),
        ({"ALERT_RECEIVERS": json.dumps({"ops": SECRET})}, "'ops' needs an address of Apprise"),
        ({"ALERT_RECEIVERS": json.dumps({"ops": f"json://u:{SECRET}@other.example/"})}, "to other.example without TLS"),
        ({"ALERT_QUIET_HOURS": "10pm"}, "ALERT_QUIET_HOURS must be two times of day such as 22:00-07:00"),
        ({"ALERT_TIME_ZONE": "Mars/Base"}, "there is no time zone 'Mars/Base'"),
        ({"ALERT_SEVERITIES": '{"failures": "bad"}'}, "ALERT_SEVERITIES"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_their_secrets(
    environment: Environment, given: dict[str, str], problem: str
) -> None:
    environment(**given)
    with pytest.raises(ConfigError) as refused:
        load_settings(Settings)

    assert problem in str(refused.value) and SECRET not in str(refused.value)
