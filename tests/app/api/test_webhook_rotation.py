"""Inbound webhooks while a secret is being changed, and sources that sign the time."""

from __future__ import annotations

import json
import time

import pytest
from pydantic import SecretStr

from laneway.platform.errors import ConfigError
from laneway.platform.webhooks.signing import sign_hub
from tests.fixtures.api import MakeApi
from tests.fixtures.api_calls import APP_SECRET, GOOGLE_KEY, Api, facebook, problem, signed

OLD, OLDER, NEW = "the secret of before", "the secret before that", "the new secret, which is longer"
FACEBOOK_BODY = json.dumps({"object": "page", "entry": []}).encode()


def lead(key: str) -> dict[str, object]:
    return {"google_key": key, "lead_id": f"lead-{key}", "user_column_data": []}


def test_the_previous_secret_is_accepted_as_long_as_it_is_set(make_api: MakeApi) -> None:
    shop = json.dumps({"shop": {"secret": NEW, "previous": OLD}})
    api = make_api(FACEBOOK_APP_SECRET_PREVIOUS=OLD, GOOGLE_LEAD_KEY_PREVIOUS=OLD, WEBHOOK_SECRETS=shop)

    for secret, expected in ((APP_SECRET, 200), (OLD, 200), (OLDER, 401), ("", 401)):
        headers = facebook(FACEBOOK_BODY, secret=secret)
        assert api.http.post("/webhooks/facebook", content=FACEBOOK_BODY, headers=headers).status_code == expected
    for key, expected in ((GOOGLE_KEY, 200), (OLD, 200), (OLDER, 401), ("", 401)):
        assert api.http.post("/webhooks/google", json=lead(key)).status_code == expected
    for secret, expected in ((NEW, 200), (OLD, 200), (OLDER, 401), ("", 401)):
        headers = signed(b"{}", secret=secret)
        assert api.http.post("/webhooks/shop", content=b"{}", headers=headers).status_code == expected


def test_without_a_previous_secret_the_old_one_is_refused(api: Api) -> None:
    problem(api.http.post("/webhooks/google", json=lead(OLD)), 401)
    problem(api.http.post("/webhooks/shop", content=b"{}", headers=signed(b"{}", secret=OLD)), 401)


def test_a_time_that_is_signed_must_be_near(make_api: MakeApi) -> None:
    source = {"secret": NEW, "previous": OLD, "timestamp_header": "X-Time", "tolerance": 60}
    api = make_api(WEBHOOK_SECRETS=json.dumps({"shop": source}))
    body, now = b'{"id": "evt-1"}', int(time.time())

    def status(stamp: str | None, *, signs: str | None = None, secret: str = NEW) -> int:
        content = body if signs == "" else f"{stamp if signs is None else signs}.".encode() + body
        headers = {"X-Signature-256": sign_hub(content, SecretStr(secret)), **({"X-Time": stamp} if stamp else {})}
        return api.http.post("/webhooks/shop", content=body, headers=headers).status_code

    assert status(str(now)) == status(str(now - 30)) == status(str(now + 30)) == status(str(now), secret=OLD) == 200
    for stamp in (str(now - 120), str(now + 120), None, "soon", "-1", f"{now}.5", "1" * 20, "١" * 10):
        assert status(stamp if stamp is None or stamp.isascii() else "x") == 401, stamp
    assert status(str(now), signs=str(now - 30)) == 401, "another time than the signed one"
    assert status(str(now), signs="") == 401, "the time is not signed"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"WEBHOOK_SECRETS": '{"shop": {"secret": "s", "tolerance": 60}}'}, "timestamp_header"),
        ({"WEBHOOK_SECRETS": '{"shop": {"secret": "s", "previous": ""}}'}, "previous"),
        ({"FACEBOOK_APP_SECRET": "", "FACEBOOK_APP_SECRET_PREVIOUS": "s"}, "needs FACEBOOK_APP_SECRET,"),
        ({"GOOGLE_LEAD_KEY": "", "GOOGLE_LEAD_KEY_PREVIOUS": "s"}, "needs GOOGLE_LEAD_KEY,"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(make_api: MakeApi, given: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_api(**given)
