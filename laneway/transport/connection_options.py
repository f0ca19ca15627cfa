"""Derives from a kombu connection the address and the settings that `make_pool` takes.

Several addresses in kombu (`broker_url = "redis://a;redis://b"`) mean one of two things: nodes that may be the broker
and are tried in turn, or the Sentinels of one broker. When kombu tries the next node, it takes the transport from the
scheme of that address, so a project would silently change to another transport. Therefore these addresses get schemes
that name the engine's transport.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES

from laneway.engine.errors import InvalidUrl
from laneway.transport.signatures import RING_OPTION, SIGNING_OPTION

logger = logging.getLogger(__name__)
PLAIN, SECURE = "laneway", "laneways"
_FROM_OPTIONS = (
    "master_name",
    "min_other_sentinels",
    "sentinel_kwargs",
    "client_name",
    "credential_provider",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_keepalive_options",
    "socket_timeout",
)
"""Transport options that are connection settings, as in kombu's own Redis transport."""

_OWN = frozenset(
    (
        "lease",
        "weights",
        "labels",
        "classes",
        "poll_interval",
        "cancel_signal",
        "connection",
        "global_keyprefix",
        "zero_goes_first",
        RING_OPTION,
        SIGNING_OPTION,
        *_FROM_OPTIONS,
    )
)
_OF_KOMBU = frozenset(
    (
        "max_retries",
        "interval_start",
        "interval_step",
        "interval_max",
        "connect_retries_timeout",
        "errback",
        "callback",
        "queues",
        "client_properties",
    )
)
"""Options that kombu and Celery use themselves, with every transport."""
_NOT_NEEDED = {
    "visibility_timeout": "a lease is renewed while its worker lives (option `lease`)",
    "unacked_key": "leases take the place of kombu's unacked messages",
    "unacked_index_key": "leases take the place of kombu's unacked messages",
    "unacked_mutex_key": "leases take the place of kombu's unacked messages",
    "unacked_mutex_expire": "leases take the place of kombu's unacked messages",
    "unacked_restore_limit": "leases take the place of kombu's unacked messages",
    "unacked_restore_interval": "leases take the place of kombu's unacked messages",
    "unacked_restore_throttle": "leases take the place of kombu's unacked messages",
    "ack_emulation": "every message is acked",
    "priority_steps": "each queue has the ten priorities 0 to 9",
    "polling_interval": "a consumer is woken when a message comes (option `poll_interval`)",
    "sep": "a queue has one name for all priorities",
    "queue_order_strategy": "queues take turns by their weights (option `weights`)",
    "fanout_prefix": "broadcasts always stay in their database",
    "fanout_patterns": "broadcasts go to the exact exchange",
    "max_connections": "each process opens the connections that it needs",
    "health_check_interval": "a connection that broke is replaced at the next command",
    "retry_on_timeout": "a command whose reply was lost is sent again where that is safe",
}
"""Options of kombu's Redis transport that have no effect here → why."""
_warned: set[str] = set()

for _scheme in (PLAIN, SECURE):
    TRANSPORT_ALIASES.setdefault(_scheme, "laneway:Transport")


def why_unused(option: str) -> str | None:
    """Why a transport option has no effect; None for one that has an effect."""
    if option in _OWN or option in _OF_KOMBU:
        return None
    return _NOT_NEEDED.get(option, "Laneway's transport has no such option")


class EngineAddresses(Iterator[str]):
    """The addresses that kombu tries in turn, each with a scheme that keeps this transport."""

    def __init__(self, addresses: Iterator[str]) -> None:
        self._addresses = addresses

    def __next__(self) -> str:
        """The next address to try."""
        scheme, separator, rest = next(self._addresses).partition("://")
        if not separator:
            return scheme
        return f"{SECURE if scheme in ('rediss', SECURE) else PLAIN}://{rest}"


def warn_of_unused(options: Mapping[str, Any]) -> None:
    """Warn of each transport option that has no effect, once per process."""
    for name in sorted(options.keys() - _OWN - _OF_KOMBU - _warned):
        _warned.add(name)
        logger.warning("The transport option %r has no effect: %s", name, why_unused(name))


def keep_transport(client: Any) -> None:
    """Make kombu try this connection's other addresses with this transport. Raises InvalidUrl."""
    schemes = {str(address).partition("://")[0] for address in client.alt or () if "://" in str(address)}
    if "sentinel" in schemes or str(client.hostname).startswith("sentinel://"):
        client.cycle = None  # each connect asks all Sentinels
        return
    if schemes & {"unix", "socket"} and len(client.alt) > 1:
        raise InvalidUrl("unix", "cannot be one of several addresses")
    if client.cycle is not None and not isinstance(client.cycle, EngineAddresses):
        client.cycle = EngineAddresses(client.cycle)


def address_of(client: Any) -> str:
    """The address of the server that this connection is for."""
    host = str(client.hostname or "localhost")
    if host.startswith("sentinel://"):
        return ";".join(dict.fromkeys([host, *(str(other) for other in client.alt or ())]))
    if "://" in host:
        return host
    login = ""
    if client.userid or client.password:
        login = f"{quote(client.userid or '', safe='')}:{quote(client.password or '', safe='')}@"
    scheme = "rediss" if client.transport_cls == SECURE else "redis"
    database = str(client.virtual_host or "").strip("/") or 0
    return f"{scheme}://{login}{host}{'' if ':' in host else f':{client.port or 6379}'}/{database}"


def lease_timeouts(settings: Mapping[str, Any], lease: float) -> dict[str, float]:
    """Timeouts for the connections that renew leases: at most a sixth of the lease (seconds).

    Leases are renewed each third of their time. So a connection that has gone silent is noticed, and another one
    renews them, before they expire.
    """
    most = lease / 6
    return {name: min(float(settings.get(name) or most), most) for name in ("socket_timeout", "socket_connect_timeout")}


def settings_of(client: Connection) -> dict[str, Any]:
    """redis-py's settings: from the transport options, `broker_use_ssl`, and the connection's login and database."""
    options: dict[str, Any] = client.transport_options
    settings: dict[str, Any] = {"socket_keepalive": True, "socket_timeout": 30}
    settings |= {name: options[name] for name in _FROM_OPTIONS if name in options}
    settings |= options.get("connection", {})
    if client.connect_timeout:
        settings.setdefault("socket_connect_timeout", client.connect_timeout)
    if client.ssl:
        settings |= client.ssl if isinstance(client.ssl, dict) else {"ssl": True}
    parts = urlsplit(str(client.hostname).partition(";")[0])
    if parts.scheme and client.userid and not parts.username:
        settings["username"] = client.userid
    if parts.scheme and client.password and not parts.password:
        settings["password"] = client.password
    database = str(client.virtual_host or "").strip("/")
    if parts.scheme in ("redis", "rediss") and database and not parts.path.strip("/"):
        settings["db"] = int(database)
    return settings
