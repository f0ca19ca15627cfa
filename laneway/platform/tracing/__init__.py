"""Traces by OpenTelemetry: a request, the submissions that it makes, their messages, attempts, steps and webhooks.

`active` is None while traces are off. Then no module of OpenTelemetry is imported, and the code that could make spans
looks at `active` and does nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laneway._extras import require
from laneway.platform.errors import ConfigError

if TYPE_CHECKING:
    from laneway.platform.settings.tracing import TracingSettings
    from laneway.platform.tracing.spans import Spans

PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

active: Spans | None = None
"""Makes the spans of this process and of those that it forks. None: traces are off."""


def start(settings: TracingSettings) -> None:
    """Make spans from now on, if the settings name a collector. Safe to repeat.

    Raises ConfigError without the extra `tracing`, and for a standard variable of OpenTelemetry with a value that
    cannot be used.
    """
    global active  # noqa: PLW0603 - one tracer a process
    if settings.endpoint is None or active is not None:
        return
    try:
        require("tracing", PACKAGES, what="TRACING_ENDPOINT")
    except ImportError as error:
        raise ConfigError(str(error)) from None
    from laneway.platform.tracing.provider import ProcessProvider, is_disabled
    from laneway.platform.tracing.spans import Spans

    if not is_disabled():
        active = Spans(ProcessProvider(settings))


def stop() -> None:
    """Send the spans that this process still has, and make no more: for the end of a process.

    It waits for a limited time, and not for a collector that is away.
    """
    global active
    stopped, active = active, None
    if stopped is not None:
        stopped.close()
