"""Settings of traces: where spans are sent, and how many traces are recorded."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from laneway.platform.settings.base import Group
from laneway.platform.settings.plaintext import plain_host

TRACES_PATH: Final = "/v1/traces"
"""Where a collector takes spans, as OTLP over HTTP says."""
SAMPLER: Final = "OTEL_TRACES_SAMPLER"
STANDARD_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
"""The variables from which the exporter takes further headers."""
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VALUE: Final = re.compile(r"[\t -~]*", re.ASCII)


class TracingSettings(Group):
    """Traces by OpenTelemetry."""

    endpoint: str | None = Field(None, alias="TRACING_ENDPOINT")
    """The address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. It needs
    `laneway[tracing]`. Default: there are no traces.
    """
    headers: SecretStr | None = Field(None, alias="TRACING_HEADERS")
    """Headers for the collector, such as a key: `name=value`, separated by commas."""
    sample: float | None = Field(None, alias="TRACING_SAMPLE", ge=0, le=1)
    """The share of traces that begin here and are recorded, from 0 to 1. A trace that a caller has begun is recorded if
    the caller records it. Default: what `OTEL_TRACES_SAMPLER` says, else all.
    """

    @model_validator(mode="after")
    def _usable(self) -> TracingSettings:
        if self.endpoint is None:
            if self.headers is not None:
                raise ValueError("TRACING_HEADERS needs TRACING_ENDPOINT, the address that gets them")
            return self
        if not _is_address(self.endpoint):
            raise ValueError("TRACING_ENDPOINT must be an address such as http://127.0.0.1:4318, without a query")
        if self.sample is not None and os.environ.get(SAMPLER):
            raise ValueError(f"TRACING_SAMPLE and {SAMPLER} both say which traces are recorded: set one of them")
        _ = self.header_values
        return self

    @property
    def traces_url(self) -> str | None:
        """The address to which spans are sent; None without an endpoint."""
        if self.endpoint is None:
            return None
        base = self.endpoint.rstrip("/")
        return base if base.endswith(TRACES_PATH) else base + TRACES_PATH

    @property
    def header_values(self) -> dict[str, str]:
        """Name → value of the headers. Raises ValueError for a text that has another form."""
        text = self.headers.get_secret_value() if self.headers else ""
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        found = {name.strip(): value.strip() for name, _, value in pairs}
        if not all(equals for _, equals, _ in pairs) or not all(map(_is_header, found, found.values())):
            raise ValueError("TRACING_HEADERS must be name=value, or several of them with commas between")
        return found

    def exposed(self) -> dict[str, str]:
        host = plain_host(self.endpoint)
        has_key = self.headers is not None or any(map(os.environ.get, STANDARD_HEADERS))
        has_login = "@" in urlsplit(self.endpoint or "").netloc
        return {"TRACING_ENDPOINT": host} if host and (has_key or has_login) else {}


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_valid = parts.port != 0
    except ValueError:
        return False
    is_plain = not parts.query and not parts.fragment
    return is_valid and is_plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_header(name: str, value: str) -> bool:
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))
