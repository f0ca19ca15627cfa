"""Decides which IP addresses may be called when somebody else chose the URL. The rules depend on the address only."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AllowPrivate(StrEnum):
    """Which of the `PRIVATE` addresses may be called."""

    NONE = "none"
    LOOPBACK = "loopback"
    """Only the addresses of this machine."""
    ALL = "all"


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


PRIVATE: Final = _networks(
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "::1/128",
    "fc00::/7",
)
"""This machine and private networks: callable only if `AllowPrivate` says so."""

METADATA: Final = _networks(
    "169.254.169.254/32",
    "169.254.170.2/32",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
)
"""Metadata services of clouds, which give credentials to every caller: never callable.

One of them has a public address, others have private ones. AWS has more than one such service in its IPv6 range."""

SPECIAL: Final = _networks(
    "192.0.0.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "3fff::/20",
    "5f00::/16",
    "fec0::/10",
)
"""Special-purpose networks of the IANA registries. Python releases differ in which of them they know."""

NAT64: Final = IPv6Network("64:ff9b::/96")


def forbidden_reason(address: Address, *, allow_private: AllowPrivate = AllowPrivate.NONE) -> str | None:
    """Return why this address must not be called, or None.

    An IPv6 address that wraps an IPv4 address is judged by the IPv4 address.
    """
    if isinstance(address, IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if wrapped:
            return forbidden_reason(wrapped, allow_private=allow_private)
    if _within(address, METADATA):
        return "it is a metadata service of a cloud"
    if _within(address, PRIVATE):
        return _private_reason(address, allow_private)
    for unfit, name in (
        (address.is_unspecified, "unspecified"),
        (address.is_multicast, "multicast"),
        (address.is_link_local, "link-local"),
        (address.is_reserved or not address.is_global or _within(address, SPECIAL), "reserved"),
    ):
        if unfit:
            return f"it is a {name} address"
    return None


def _private_reason(address: Address, allow_private: AllowPrivate) -> str | None:
    if allow_private is AllowPrivate.ALL or (allow_private is AllowPrivate.LOOPBACK and address.is_loopback):
        return None
    return "it is this machine" if address.is_loopback else "it is a private address"


def _nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)
