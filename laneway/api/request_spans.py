"""The span of each request, which FastAPI makes: it continues the trace of a caller that sends `traceparent`."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

from fastapi.telemetry import TelemetryConfig

from laneway.platform import tracing
from laneway.platform.errors import ConfigError
from laneway.platform.settings import TracingSettings


def request_telemetry(settings: TracingSettings) -> TelemetryConfig | None:
    """Start the traces of this process; returns what FastAPI is to do. None: traces are off.

    The process ends with one sentence if they cannot be made.
    """
    try:
        tracing.start(settings)
    except ConfigError as error:
        sys.exit(str(error))
    spans = tracing.active
    if spans is None:
        return None
    return {"tracer_provider": spans.provider, "operation_spans": False, "exclude": _is_probe}


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request only asks how the process is: there are many of them, and nothing follows from them."""
    return str(scope.get("path", "")).startswith("/health/")
