"""The calls of limits with names. Send them with `Client.send`."""

from __future__ import annotations

from laneway.client.call_parts import adapter, part
from laneway.client.calls import Call
from laneway.schemas.limit import NamedLimitRequest, NamedLimitsResponse, NamedLimitView


def limits() -> Call[NamedLimitsResponse]:
    """`GET /limits`."""
    return Call("GET", "/limits", adapter(NamedLimitsResponse))


def limit(name: str) -> Call[NamedLimitView]:
    """`GET /limits/{name}`."""
    return Call("GET", f"/limits/{part(name)}", adapter(NamedLimitView))


def set_limit(name: str, request: NamedLimitRequest) -> Call[NamedLimitView]:
    """`PUT /limits/{name}`."""
    body = request.model_dump(mode="json", exclude_none=True)
    return Call("PUT", f"/limits/{part(name)}", adapter(NamedLimitView), body)


def remove_limit(name: str) -> Call[NamedLimitView]:
    """`DELETE /limits/{name}`."""
    return Call("DELETE", f"/limits/{part(name)}", adapter(NamedLimitView))
