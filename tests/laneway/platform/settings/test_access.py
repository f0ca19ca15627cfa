"""Settings of access, and what they refuse together with others."""

from __future__ import annotations

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings, load_settings
from laneway.platform.settings.access import is_loopback
from tests.fixtures.platform import Environment


def test_authentication_is_on_in_production_and_where_it_is_asked_for(environment: Environment) -> None:
    environment()
    assert not load_settings(Settings).is_authenticating
    environment(AUTHENTICATION="on")
    assert load_settings(Settings).is_authenticating
    environment(AUTHENTICATION="auto", ENVIRONMENT="production")
    assert load_settings(Settings).is_authenticating
    environment(AUTHENTICATION="off")
    with pytest.raises(ConfigError, match="AUTHENTICATION must not be off while ENVIRONMENT is production"):
        load_settings(Settings)


def test_another_address_than_loopback_needs_authentication(environment: Environment) -> None:
    for host in ("0.0.0.0", "::", "10.0.0.5", "api.internal"):
        environment(API_HOST=host, AUTHENTICATION="off")
        with pytest.raises(ConfigError, match="AUTHENTICATION=on"):
            load_settings(Settings)
        environment(AUTHENTICATION="on")
        assert load_settings(Settings).api.host == host
    environment(AUTHENTICATION="off", API_HOST="::1")
    assert load_settings(Settings).api.host == "::1"


def test_hosts_are_names_or_addresses(environment: Environment) -> None:
    environment(ALLOWED_HOSTS=" Tasks.example.com,*.example.com, 10.0.0.7,[::1] ,")
    hosts = load_settings(Settings).access.allowed_hosts
    assert hosts == ("tasks.example.com", "*.example.com", "10.0.0.7", "[::1]")
    for wrong in ("https://example.com", "example.com:8000", "example.com/x", "*", "*.*.com", "a b", "x@y"):
        environment(ALLOWED_HOSTS=wrong)
        with pytest.raises(ConfigError, match="is no host"):
            load_settings(Settings)


def test_which_hosts_are_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "a.localhost")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "10.0.0.1", "localhost.example.com", "xlocalhost")))
