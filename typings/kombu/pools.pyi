# kombu 5.7

from typing import Any, Generic, TypeVar

from kombu.connection import Connection, ConnectionPool
from kombu.resource import Resource

_Pool = TypeVar("_Pool", bound=Resource)
_Group = TypeVar("_Group", bound=PoolGroup[Any])

use_global_limit: object

class ProducerPool(Resource):
    connections: ConnectionPool

    def __init__(self, connections: ConnectionPool, *args: Any, **kwargs: Any) -> None: ...

class PoolGroup(Generic[_Pool]):
    def __init__(self, limit: Any = None, close_after_fork: bool = True) -> None: ...
    def __getitem__(self, key: Connection) -> _Pool: ...

class Connections(PoolGroup[ConnectionPool]):
    def create(self, connection: Connection, limit: int | None) -> ConnectionPool: ...

class Producers(PoolGroup[ProducerPool]):
    def create(self, connection: Connection, limit: int | None) -> ProducerPool: ...

connections: Connections
producers: Producers

def register_group(group: _Group) -> _Group: ...
def reset() -> None: ...
