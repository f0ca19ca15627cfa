"""Makes a redis-py connection pool from the address of a server. The engine takes only the settings from the pool.

Addresses are `redis://`, `rediss://` (TLS), `unix:///path?db=0`, Celery's `socket:///path?virtual_host=0`, and
`sentinel://host:port;host:port/0` with `master_name` among the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, SSLConnection
from redis.driver_info import DriverInfo
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from laneway.engine.errors import InvalidUrl

SENTINEL_PORT = 26379
SENTINEL_SECONDS = 2.0
"""Default timeout for connecting to a Sentinel and for its reply. It is short, because another Sentinel may reply."""
_DRIVER = DriverInfo()
"""What a connection tells the server of itself. Otherwise redis-py reads its own version from the disk for each."""
_TCP_ONLY = ("socket_keepalive", "socket_keepalive_options", "socket_connect_timeout")
_SENTINEL_SETTINGS = ("master_name", "min_other_sentinels", "sentinel_kwargs")


def make_pool(url: str, **settings: Any) -> ConnectionPool:
    """Return a pool that says how to connect to `url`. Raises InvalidUrl; does not connect.

    `settings` are redis-py's connection settings. TLS settings (`ssl_ca_certs` and so on, or `ssl=True`) turn TLS on
    for `redis://` and `sentinel://` too.
    """
    sentinel_settings = {name: settings.pop(name) for name in _SENTINEL_SETTINGS if name in settings}
    settings.setdefault("driver_info", _DRIVER)
    tls = bool(settings.pop("ssl", False)) or any(name.startswith("ssl_") for name in settings)
    scheme = url.partition("://")[0]
    if scheme == "sentinel":
        return _sentinel_pool(url, sentinel_settings, {**settings, "ssl": tls})
    if scheme in ("unix", "socket"):
        url = _unix_url(url)
        settings = {name: value for name, value in settings.items() if name not in _TCP_ONLY}
    elif scheme == "redis" and tls:
        settings["connection_class"] = SSLConnection
    elif scheme not in ("redis", "rediss"):
        raise InvalidUrl(scheme, "is not one of redis, rediss, unix, socket, sentinel")
    return ConnectionPool.from_url(_with_redis_cert_reqs(url), **settings)  # pyright: ignore[reportUnknownMemberType]


def _sentinel_pool(url: str, sentinel: Mapping[str, Any], settings: dict[str, Any]) -> ConnectionPool:
    """A pool that asks the Sentinels for the master at each connect. Credentials in the address are the master's."""
    if not sentinel.get("master_name"):
        raise InvalidUrl("sentinel", "needs master_name in the transport options (or settings)")
    parts = [urlsplit(part if "://" in part else f"sentinel://{part}") for part in url.split(";") if part]
    nodes = [(unquote(part.hostname or "localhost"), part.port or SENTINEL_PORT) for part in parts]
    database = next((part.path.strip("/") for part in parts if part.path.strip("/")), "0")
    login = next((part for part in parts if part.username or part.password), parts[0])
    if login.username:
        settings["username"] = unquote(login.username)
    if login.password:
        settings["password"] = unquote(login.password)
    node_settings = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
    node_settings |= {"retry": Retry(NoBackoff(), 0), **(sentinel.get("sentinel_kwargs") or {})}
    manager = Sentinel(
        nodes, min_other_sentinels=int(sentinel.get("min_other_sentinels") or 0), sentinel_kwargs=node_settings
    )
    return SentinelConnectionPool(str(sentinel["master_name"]), manager, db=int(database), **settings)


def close_sentinels(pool: ConnectionPool) -> None:
    """Close the connections to the Sentinels. They are opened again when they are needed."""
    manager = getattr(pool, "sentinel_manager", None)
    if manager is not None:
        cast("Sentinel", manager).close()


def _unix_url(url: str) -> str:
    """The address in redis-py's form, which calls the database `db`."""
    parts = urlsplit(url)
    query = [("db" if name == "virtual_host" else name, value.strip("/")) for name, value in parse_qsl(parts.query)]
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"unix://{login}{parts.path}?{urlencode(query)}"


def _with_redis_cert_reqs(url: str) -> str:
    """The address in redis-py's form: Celery writes ssl_cert_reqs=CERT_REQUIRED, redis-py ssl_cert_reqs=required."""
    for name in ("REQUIRED", "OPTIONAL", "NONE"):
        url = url.replace(f"ssl_cert_reqs=CERT_{name}", f"ssl_cert_reqs={name.lower()}")
    return url
