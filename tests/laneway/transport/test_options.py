"""Options of the transport that have no effect are named once."""

from __future__ import annotations

import pytest

from laneway.transport import connection_options
from laneway.transport.connection_options import warn_of_unused


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_options, "_warned", set())


def test_an_option_of_the_stock_transport_without_effect_is_named_once_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        warn_of_unused({"visibility_timeout": 3600, "lease": 30, "max_retries": 3})
    (warning,) = caplog.messages
    assert "'visibility_timeout' has no effect" in warning
    assert "`lease`" in warning


def test_an_unknown_option_is_named(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unused({"laese": 30})
    assert caplog.messages == ["The transport option 'laese' has no effect: Laneway's transport has no such option"]
