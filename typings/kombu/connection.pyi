# kombu 5.7

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from kombu.resource import Resource
from kombu.transport.base import Transport

class Connection:
    hostname: str | None
    userid: str | None
    password: str | None
    virtual_host: str | None
    port: int | None
    ssl: bool | dict[str, Any] | None
    alt: list[str]
    cycle: Iterator[str] | None
    connect_timeout: float | None
    declared_entities: set[Any]
    transport_cls: Any
    transport_options: dict[str, Any]

    def __init__(
        self,
        hostname: str = "localhost",
        userid: str | None = None,
        password: str | None = None,
        virtual_host: str | None = None,
        port: int | None = None,
        insist: bool = False,
        ssl: bool | dict[str, Any] | None = False,
        transport: Any = None,
        connect_timeout: float = 5,
        transport_options: Mapping[str, Any] | None = None,
        login_method: str | None = None,
        uri_prefix: str | None = None,
        heartbeat: float = 0,
        failover_strategy: Any = "round-robin",
        alternates: list[str] | None = None,
        credential_provider: Any = None,
        **kwargs: Any,
    ) -> None: ...
    def ensure_connection(self, *args: Any, **kwargs: Any) -> Self: ...
    def get_transport_cls(self) -> type[Transport]: ...
    @property
    def connected(self) -> bool: ...
    @property
    def transport(self) -> Any: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None: ...

class ConnectionPool(Resource): ...
