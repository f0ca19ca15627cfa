"""Which addresses may be called, and how URLs are displayed."""

from __future__ import annotations

import pickle
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.platform.webhooks.address_rules import AllowPrivate, forbidden_reason
from laneway.platform.webhooks.egress import ForbiddenAddress, display_url

PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "2606:4700:4700::1111", "2a00:1450:4001::1"]
OWN = ["127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1"]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "255.255.255.255",
    "240.0.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "169.254.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "::",
    "fe80::1",
    "fe80::1%1",
    "ff02::1",
    "fec0::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "2001::1",
    "2001:0:7f00:1::1",
    "::127.0.0.1",
    "64:ff9b:1::1",
]
INTERESTING = [int(IPv4Address(text)) for text in OWN + NEVER + PUBLIC if ":" not in text]
WRAPPINGS = {
    "mapped": lambda inner: IPv6Address(0xFFFF << 32 | int(inner)),
    "nat64": lambda inner: IPv6Address((0x64FF9B << 96) | int(inner)),
    "6to4": lambda inner: IPv6Address((0x2002 << 112) | (int(inner) << 80) | 1),
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert forbidden_reason(ip_address(address)) is None
    assert forbidden_reason(ip_address(address), allow_private=AllowPrivate.ALL) is None


@pytest.mark.parametrize("address", OWN)
def test_our_own_network_is_called_only_when_it_is_allowed(address: str) -> None:
    assert forbidden_reason(ip_address(address)) is not None
    assert forbidden_reason(ip_address(address), allow_private=AllowPrivate.ALL) is None


@pytest.mark.parametrize("address", OWN)
def test_allowing_loopback_does_not_allow_our_network(address: str) -> None:
    called = forbidden_reason(ip_address(address), allow_private=AllowPrivate.LOOPBACK) is None

    assert called == (address.startswith("127.") or address == "::1")


@pytest.mark.parametrize("address", NEVER)
def test_special_addresses_are_never_called(address: str) -> None:
    assert forbidden_reason(ip_address(address)) is not None
    assert forbidden_reason(ip_address(address), allow_private=AllowPrivate.ALL) is not None
    assert forbidden_reason(ip_address(address), allow_private=AllowPrivate.LOOPBACK) is not None


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "unspecified"),
        ("ff0e::1", "multicast"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("198.18.0.1", "reserved"),
        ("2001:0:7f00:1::1", "reserved"),
    ],
)
def test_the_reason_names_the_kind_of_address(address: str, kind: str) -> None:
    assert forbidden_reason(ip_address(address)) == f"it is a {kind} address"


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@given(value=st.integers(0, 2**32 - 1) | st.sampled_from(INTERESTING))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself(wrapping: str, value: int) -> None:
    inner = IPv4Address(value)
    for allow_private in AllowPrivate:
        outer = WRAPPINGS[wrapping](inner)
        assert forbidden_reason(outer, allow_private=allow_private) == forbidden_reason(
            inner, allow_private=allow_private
        )


@given(st.ip_addresses())
def test_addresses_that_python_calls_not_global_are_not_called(address: IPv4Address | IPv6Address) -> None:
    wraps = isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour)
    if not wraps and (not address.is_global or address.is_multicast):
        assert forbidden_reason(address) is not None


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://user:pass@example.com/a?token=1#f", "https://example.com/a"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("http://h\n/", "the address"),
    ],
)
def test_a_url_is_displayed_without_its_secrets(url: str, safe: str) -> None:
    assert display_url(url).rstrip("/") == safe


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ForbiddenAddress("http://h/", "it is this machine")))  # noqa: S301

    assert str(error) == "http://h/ is not called: it is this machine"
    assert error.retryable is False
