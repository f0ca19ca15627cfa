# celery 5.7

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from celery.backends.asynchronous import AsyncBackendMixin, BaseResultConsumer
from celery.backends.base import BaseKeyValueStoreBackend
from redis.connection import ConnectionPool

_T = TypeVar("_T")

CHORD_PART_RETURN_LUA: str
CHORD_CLEANUP_LUA: str
CHORD_CLAIM_EXTEND_LUA: str

class RedisBackend(BaseKeyValueStoreBackend, AsyncBackendMixin):
    ResultConsumer: type[BaseResultConsumer]
    _MAX_STR_VALUE_SIZE: int
    connection_errors: tuple[type[BaseException], ...]
    connparams: dict[str, Any]
    expires: int | None
    failure_expires: int | None

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        db: int | None = None,
        password: str | None = None,
        max_connections: int | None = None,
        url: str | None = None,
        connection_pool: Any = None,
        **kwargs: Any,
    ) -> None: ...
    @property
    def chord_expires(self) -> int | None: ...
    @cached_property
    def client(self) -> Any: ...
    def ensure(self, fun: Callable[..., _T], args: Sequence[Any], **policy: Any) -> _T: ...
    def set(self, key: Any, value: Any, expires: int | None = None, **retry_policy: Any) -> None: ...
    def add_to_chord(self, group_id: str, result: Any) -> None: ...
    def set_chord_size(self, group_id: str, chord_size: int) -> None: ...
    def _set_chord_key(self, key: Any, value: Any) -> None: ...
    def _get_pool(self, **params: Any) -> ConnectionPool: ...
    @cached_property
    def _chord_part_return_script(self) -> Any: ...
    @cached_property
    def _chord_cleanup_script(self) -> Any: ...
    @cached_property
    def _chord_claim_extend_script(self) -> Any: ...

class SentinelBackend(RedisBackend): ...
