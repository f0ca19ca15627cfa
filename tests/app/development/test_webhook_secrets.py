"""Defaults on a development machine: generated webhook secrets, and receivers on this machine."""

from __future__ import annotations

import json

import pytest

from app.core.settings import Settings
from app.development import webhook_secrets
from laneway.platform.errors import ConfigError
from tests.laneway.server.conftest import MakeSettings

NAMES = ["FACEBOOK_APP_SECRET", "FACEBOOK_VERIFY_TOKEN", "GOOGLE_LEAD_KEY", "OUTBOUND_WEBHOOK_SECRET"]


def kept(settings: Settings) -> dict[str, str]:
    return json.loads((settings.storage.folder / webhook_secrets.FILE).read_text())


def test_secrets_are_generated_once_and_only_the_owner_can_read_them(make_settings: MakeSettings) -> None:
    settings = make_settings()
    made = webhook_secrets.for_development(settings)

    assert sorted(made) == NAMES
    assert len(set(made.values())) == len(NAMES)
    assert webhook_secrets.for_development(settings) == made == kept(settings)
    assert (settings.storage.folder / webhook_secrets.FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.storage.folder.iterdir()] == [webhook_secrets.FILE]


def test_a_generated_secret_is_a_valid_signing_key(make_settings: MakeSettings) -> None:
    made = webhook_secrets.for_development(make_settings())

    assert [len(key) for key in make_settings(**made).outbound.signing_keys] == [32]


def test_an_older_file_keeps_its_secrets_and_gets_the_missing_ones(make_settings: MakeSettings) -> None:
    settings = make_settings()
    before = dict.fromkeys(NAMES[:3], "of before")
    settings.storage.folder.mkdir(parents=True)
    (settings.storage.folder / webhook_secrets.FILE).write_text(json.dumps(before))

    made = webhook_secrets.for_development(settings)

    assert {name: made[name] for name in before} == before
    assert made["OUTBOUND_WEBHOOK_SECRET"].startswith("whsec_")
    assert kept(settings) == made


def test_a_secret_that_is_set_stays(make_settings: MakeSettings) -> None:
    settings = make_settings(OUTBOUND_WEBHOOK_SECRET="of-our-own", GOOGLE_LEAD_KEY="of-our-own")

    assert sorted(webhook_secrets.for_development(settings)) == NAMES[:2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"GOOGLE_LEAD_KEY": 1}'])
def test_a_broken_file_is_reported_in_one_sentence(make_settings: MakeSettings, text: str) -> None:
    settings = make_settings()
    settings.storage.folder.mkdir(parents=True)
    (settings.storage.folder / webhook_secrets.FILE).write_text(text)

    with pytest.raises(ConfigError, match=r"webhook-secrets\.json cannot be read: delete it"):
        webhook_secrets.for_development(settings)


def test_webhooks_may_go_to_this_machine_in_development(make_settings: MakeSettings) -> None:
    given = webhook_secrets.receivers_for_development(make_settings())
    outbound = make_settings(**given).outbound

    assert (outbound.allow_loopback, outbound.allow_private) == (True, False)


@pytest.mark.parametrize(
    "given",
    [
        {"ENVIRONMENT": "production"},
        {"OUTBOUND_ALLOW_PRIVATE": "false"},
        {"OUTBOUND_ALLOW_LOOPBACK": "false"},
        {"API_HOST": "0.0.0.0", "AUTHENTICATION": "on"},
    ],
)
def test_local_receivers_are_not_allowed_in_production_or_beside_settings_or_for_other_hosts(
    make_settings: MakeSettings, given: dict[str, str]
) -> None:
    assert webhook_secrets.receivers_for_development(make_settings(**given)) == {}


def test_no_secret_is_generated_in_production(make_settings: MakeSettings) -> None:
    settings = make_settings(ENVIRONMENT="production")

    assert webhook_secrets.for_development(settings) == {}
    assert not settings.storage.folder.exists()
