"""Posting to addresses that others chose, without becoming their way into our own network.

1. Only http and https, no user and password in the address.
2. The name is looked up once, and every address it has must be a public one.
3. The connection goes to an address that was checked, not to the name again (a name may answer differently the second
   time); the Host header, SNI and the certificate's name stay those of the address as it was given.
4. Redirects are not followed, proxies of the environment are not used, nothing is decompressed.
5. One deadline holds for everything together: name, connection, TLS, sending, and every byte of the answer.

Built on httpcore2, the transport under httpx2, because only there can the connection be made by our own hands.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal

import httpcore2
import httpx2

from laneway.platform.errors import PermanentError, UpstreamError
from laneway.platform.execution.retry import LONGEST_WAIT

MAX_ANSWER = 65_536
"""Bytes of an answer's body that are kept; the rest is not even read."""
MOST_TRIED = 8
"""Addresses of one name that are connected to, one after the other, until one answers."""
PIECE = 4096
USER_AGENT = "Laneway/0.1"

Address = IPv4Address | IPv6Address
Allowed = bool | Literal["loopback"]
"""Which of the `PRIVATE` addresses may be called: all, none, or only those of this machine."""
Resolve = Callable[[str, int], list[str]]
"""Host and port to addresses, as text; raises OSError when there are none."""


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
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
"""One's own machine and network: reachable when `allow_private` says so."""

METADATA: Final = _networks(
    "169.254.169.254/32",
    "169.254.170.2/32",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
)
"""Where clouds hand out credentials to whoever asks; one is a public address, others look merely private. AWS has more
than one such service in its IPv6 range."""

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
"""Special purposes (IANA registries) that Python releases know about in different degrees."""

_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
NAT64: Final = IPv6Network("64:ff9b::/96")


class ForbiddenAddress(PermanentError):
    """We do not connect there."""

    title = "Forbidden address"

    template = "{url} is not called: {reason}"
    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back; header names in lower case, the body cut at `MAX_ANSWER`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    duration_ms: int
    sent: tuple[str, ...] = ()
    """The names of the headers that the request had."""


def post(
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    timeout: float,
    allow_private: Allowed = False,
    tls: ssl.SSLContext | None = None,
    resolve: Resolve | None = None,
) -> HttpResponse:
    """POST to an address of somebody else's choice; as `send`."""
    return send(
        "POST", url, body, headers=headers, timeout=timeout, allow_private=allow_private, tls=tls, resolve=resolve
    )


def send(
    method: str,
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    timeout: float,
    allow_private: Allowed = False,
    tls: ssl.SSLContext | None = None,
    resolve: Resolve | None = None,
) -> HttpResponse:
    """Send one request; `timeout` (seconds) is for all of it.

    Raises ForbiddenAddress, and UpstreamError when no whole answer came in time. Any status is an answer.
    """
    target = _target(url)
    deadline = Deadline(timeout)
    backend = _CheckedBackend(shown(url), deadline, allow_private=allow_private, resolve=resolve or addresses_of)
    named = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "close", **headers}
    sent = [(b"Host", target.netloc), *((name.encode(), value.encode()) for name, value in named.items())]
    try:
        with (
            httpcore2.ConnectionPool(network_backend=backend, ssl_context=tls, max_connections=1) as pool,
            pool.stream(method, _wire(target), headers=sent, content=body) as response,
        ):
            kept = _first(response.iter_stream(), MAX_ANSWER)
            return HttpResponse(response.status, _lower(response.headers), kept, deadline.elapsed_ms, ("Host", *named))
    except httpcore2.TimeoutException:
        raise UpstreamError(shown(url), f"no answer within {timeout:g} s") from None
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
        raise UpstreamError(shown(url), _reason(error)) from None
    except httpcore2.LocalProtocolError:
        raise ForbiddenAddress(shown(url), "the request would not be valid HTTP") from None


def receiver(url: str) -> str:
    """Whose address it is: the whole one without user, query and fragment, in one spelling. Raises ForbiddenAddress."""
    target = _target(url)
    host = target.host.rstrip(".")
    same = target.copy_with(host=host) if host and host != target.host else target
    return str(same.copy_with(userinfo=b"", query=None, fragment=None, path=target.path or "/"))


def shown(url: str) -> str:
    """The address as it may appear in logs, errors and results: without user, query and fragment."""
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError):
        return "the address"
    return str(parts.copy_with(userinfo=b"", query=None, fragment=None))[:500]


def refusal(address: Address, *, allow_private: Allowed = False) -> str | None:
    """Why nobody may be sent to this address, or None. An address that wraps an IPv4 one is judged by that."""
    if isinstance(address, IPv6Address):
        if address.teredo:
            return "it is a Teredo address"
        inner = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if inner:
            return refusal(inner, allow_private=allow_private)
    if _within(address, METADATA):
        return "it is a metadata service of a cloud"
    if _within(address, PRIVATE):
        if allow_private is True or (allow_private and address.is_loopback):
            return None
        return "it is this machine" if address.is_loopback else "it is a private address"
    for unfit, name in (
        (address.is_unspecified, "unspecified"),
        (address.is_multicast, "multicast"),
        (address.is_link_local, "link-local"),
        (address.is_reserved or not address.is_global or _within(address, SPECIAL), "reserved"),
    ):
        if unfit:
            return f"it is a {name} address"
    return None


def retry_after(value: str | None, *, at: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, from 0 to a day (RFC 9110, 10.2.3: seconds or an HTTP date)."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - at).total_seconds(), 0.0), LONGEST_WAIT)


def addresses_of(host: str, port: int) -> list[str]:
    """Every address of a name, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class Deadline:
    """One span of time for many steps."""

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._seconds = seconds

    @property
    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self._started) * 1000)

    def left(self, late: type[httpcore2.TimeoutException], at_most: float | None = None) -> float:
        """Seconds that remain for the next step; raises `late` when none do."""
        left = self._started + self._seconds - time.monotonic()
        if left <= 0:
            raise late
        return left if at_most is None else min(left, at_most)


class _CheckedBackend(httpcore2.NetworkBackend):
    """Makes the pool's connections: looks the name up once, checks, and connects to what was checked."""

    def __init__(self, url: str, deadline: Deadline, *, allow_private: Allowed, resolve: Resolve) -> None:
        self._url = url
        self._deadline = deadline
        self._allow_private: Allowed = allow_private
        self._resolve = resolve
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        last: Exception = httpcore2.ConnectError("the name has no address")
        addresses = self._checked(host, port)[:MOST_TRIED]
        for tried, address in enumerate(addresses):
            # One that never answers must leave time for the others: often only a name's IPv6 address leads nowhere.
            share = self._deadline.left(httpcore2.ConnectTimeout, timeout) / (len(addresses) - tried)
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
                return _TimedStream(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last

    def _checked(self, host: str, port: int) -> list[str]:
        found = self._look_up(host, port)
        for text in found:
            reason = refusal(ip_address(text), allow_private=self._allow_private)
            if reason:
                raise ForbiddenAddress(self._url, reason)
        return found

    def _look_up(self, host: str, port: int) -> list[str]:
        """In a thread, because the system's resolver knows no deadline; a late one is left to itself."""
        outcome: list[list[str] | OSError] = []

        def work() -> None:
            try:
                outcome.append(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                outcome.append(OSError(str(error)))

        thread = threading.Thread(target=work, name="egress-lookup", daemon=True)
        thread.start()
        thread.join(self._deadline.left(httpcore2.ConnectTimeout))
        if not outcome:
            raise httpcore2.ConnectTimeout
        if isinstance(outcome[0], OSError):
            raise httpcore2.ConnectError("the name cannot be resolved")
        return outcome[0]


class _TimedStream(httpcore2.NetworkStream):
    """A connection whose every step gets only the time that is left."""

    def __init__(self, inner: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(httpcore2.ReadTimeout, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces, so that a receiver that takes a few bytes at a time cannot stretch the time.
        for start in range(0, len(buffer), PIECE):
            self._inner.write(buffer[start : start + PIECE], self._deadline.left(httpcore2.WriteTimeout, timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._deadline.left(httpcore2.ConnectTimeout, timeout)
        return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _target(url: str) -> httpx2.URL:
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError):
        raise ForbiddenAddress("the address", "it is not a valid URL") from None
    if parts.scheme not in {"http", "https"}:
        raise ForbiddenAddress(shown(url), "only http and https are allowed")
    if not parts.host or not 0 < (parts.port or 80) < 65536:
        raise ForbiddenAddress(shown(url), "it names no host, or no possible port")
    if parts.userinfo:
        raise ForbiddenAddress(shown(url), "it holds a user or a password")
    return parts


def _wire(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


def _within(address: Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _first(pieces: Iterator[bytes], limit: int) -> bytes:
    kept = bytearray()
    for piece in pieces:
        kept += piece
        if len(kept) >= limit:
            break
    return bytes(kept[:limit])


def _lower(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else None  # the pool clears __cause__; what went wrong is the argument
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, httpcore2.RemoteProtocolError):
        return "it hung up or did not speak HTTP"
    return cause if isinstance(cause, str) else "the connection failed"
