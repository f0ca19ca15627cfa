"""What `laneway limits` asks of a platform: through an API, or of the project's platform in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from laneway.client import limit_calls

if TYPE_CHECKING:
    from laneway.cli.schedule_source import Sender
    from laneway.platform.platform import Platform
    from laneway.schemas.limit import NamedLimitRequest, NamedLimitView


class LimitSource(Protocol):
    """The limits that the tasks of a platform share."""

    def listing(self) -> list[NamedLimitView]: ...

    def put(self, name: str, request: NamedLimitRequest) -> NamedLimitView: ...

    def remove(self, name: str) -> NamedLimitView: ...


class ApiLimits:
    """Asks the API."""

    def __init__(self, api: Sender) -> None:
        self._api = api

    def listing(self) -> list[NamedLimitView]:
        return self._api.send(limit_calls.limits()).limits

    def put(self, name: str, request: NamedLimitRequest) -> NamedLimitView:
        return self._api.send(limit_calls.set_limit(name, request))

    def remove(self, name: str) -> NamedLimitView:
        return self._api.send(limit_calls.remove_limit(name))


class LocalLimits:
    """Asks the services of the platform."""

    def __init__(self, platform: Platform) -> None:
        self._limits = platform.named_limits

    def listing(self) -> list[NamedLimitView]:
        return self._limits.listing()

    def put(self, name: str, request: NamedLimitRequest) -> NamedLimitView:
        return self._limits.put(name, request)

    def remove(self, name: str) -> NamedLimitView:
        return self._limits.remove(name)
