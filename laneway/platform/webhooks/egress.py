"""Sends HTTP requests to URLs that others chose, without giving them a way into our own network.

1. Only http and https are allowed, without a user and a password in the URL.
2. The host name is resolved once, and every address that it has must be allowed (`address_rules.py`).
3. The connection goes to a checked address and not to the name, which may resolve differently the second time. The
   Host header, SNI and the check of the certificate use the name of the URL.
4. Redirects are not followed, proxies of the environment are not used, and nothing is decompressed.
5. One deadline covers everything: resolving, connecting, TLS, sending, and each byte of the response.
6. The status decides. A body that is cut, broken or endless does not turn a response into none, nor does an odd header.

Built on httpcore2, the transport under httpx2, because only there can the caller make the connection itself.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import httpcore2
import httpx2

from laneway._masking import masked
from laneway.platform.errors import PermanentError, UpstreamError
from laneway.platform.webhooks.address_rules import AllowPrivate, forbidden_reason
from laneway.platform.webhooks.response_head import HeadFilter

MAX_BODY: Final = 65_536
"""Bytes of a response's body that are read and kept; the rest is not read."""
MAX_ADDRESSES: Final = 8
"""Addresses of one name that are tried, one after the other, until a connection succeeds."""
WRITE_CHUNK: Final = 4096
MAX_DISPLAYED: Final = 500
"""Characters of a URL in logs, errors and results."""
USER_AGENT: Final = "Laneway/0.1"

Resolver = Callable[[str, int], list[str]]
"""Resolves host and port to IP addresses as text; raises OSError when there are none."""


class ForbiddenAddress(PermanentError):
    """The address must not be called."""

    title = "Forbidden address"

    template = "{url} is not called: {reason}"
    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response: header names in lower case, the body cut at `MAX_BODY`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    duration_ms: int
    request_headers: tuple[str, ...] = ()
    """The names of the headers that the request had."""
    broken: str | None = None
    """Why the body is incomplete; None if it is complete, or was cut at `MAX_BODY`."""


def send(
    method: str,
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    timeout: float,
    allow_private: AllowPrivate = AllowPrivate.NONE,
    tls: ssl.SSLContext | None = None,
    resolve: Resolver | None = None,
) -> HttpResponse:
    """Send one request and return its response, whatever its status. `timeout` (seconds) covers everything.

    Raises ForbiddenAddress, and UpstreamError when no complete head of a response came in time.
    """
    target = _parse_url(url)
    deadline = Deadline(timeout)
    backend = _CheckedBackend(
        display_url(url), deadline, allow_private=allow_private, resolve=resolve or resolve_by_system
    )
    named = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "close", **headers}
    fields = [(b"Host", target.netloc), *((name.encode(), value.encode()) for name, value in named.items())]
    try:
        with (
            httpcore2.ConnectionPool(network_backend=backend, ssl_context=tls, max_connections=1) as pool,
            pool.stream(method, _httpcore_url(target), headers=fields, content=body) as response,
        ):
            content, broken = _read_body(response.iter_stream())
            decoded = _decode_headers(response.headers)
            return HttpResponse(response.status, decoded, content, deadline.elapsed_ms, ("Host", *named), broken)
    except httpcore2.TimeoutException:
        raise UpstreamError(display_url(url), f"no answer within {timeout:g} s") from None
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
        raise UpstreamError(display_url(url), _failure_reason(error)) from None
    except httpcore2.LocalProtocolError:
        raise ForbiddenAddress(display_url(url), "the request would not be valid HTTP") from None


def endpoint_url(url: str) -> str:
    """Return the URL without user, query and fragment, in one spelling: it identifies a receiver.

    Raises ForbiddenAddress.
    """
    target = _parse_url(url)
    host = target.host.rstrip(".")
    same = target.copy_with(host=host) if host and host != target.host else target
    return str(same.copy_with(userinfo=b"", query=None, fragment=None, path=target.path or "/"))


def display_url(url: str) -> str:
    """Return the URL as logs, errors and results may show it: without user, query, fragment and secrets in its path."""
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError):
        return "the address"
    return masked(str(parts.copy_with(userinfo=b"", query=None, fragment=None)))[:MAX_DISPLAYED]


def resolve_by_system(host: str, port: int) -> list[str]:
    """Return every address of a name, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class Deadline:
    """One time limit that several steps share."""

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._seconds = seconds

    @property
    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self._started) * 1000)

    def remaining(self, timeout_error: type[httpcore2.TimeoutException], at_most: float | None = None) -> float:
        """Return the seconds that are left for the next step; raise `timeout_error` when none are."""
        left = self._started + self._seconds - time.monotonic()
        if left <= 0:
            raise timeout_error
        return left if at_most is None else min(left, at_most)


class _CheckedBackend(httpcore2.NetworkBackend):
    """Makes the connections of the pool: resolves the name once, checks its addresses, and connects to one of them."""

    def __init__(self, url: str, deadline: Deadline, *, allow_private: AllowPrivate, resolve: Resolver) -> None:
        self._url = url
        self._deadline = deadline
        self._allow_private = allow_private
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
        last_error: Exception = httpcore2.ConnectError("the name has no address")
        addresses = self._checked_addresses(host, port)[:MAX_ADDRESSES]
        for tried, address in enumerate(addresses):
            # An address that never answers must leave time for the others: often only a name's IPv6 address is dead.
            share = self._deadline.remaining(httpcore2.ConnectTimeout, timeout) / (len(addresses) - tried)
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options)
                return _TimedStream(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last_error = error
        raise last_error

    def _checked_addresses(self, host: str, port: int) -> list[str]:
        addresses = self._resolve_in_time(host, port)
        for text in addresses:
            reason = forbidden_reason(ip_address(text), allow_private=self._allow_private)
            if reason:
                raise ForbiddenAddress(self._url, reason)
        return addresses

    def _resolve_in_time(self, host: str, port: int) -> list[str]:
        """Resolve in a thread, because the system's resolver has no deadline; abandon the thread when it is late."""
        outcome: list[list[str] | OSError] = []

        def work() -> None:
            try:
                outcome.append(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                outcome.append(OSError(str(error)))

        thread = threading.Thread(target=work, name="egress-lookup", daemon=True)
        thread.start()
        thread.join(self._deadline.remaining(httpcore2.ConnectTimeout))
        if not outcome:
            raise httpcore2.ConnectTimeout
        if isinstance(outcome[0], OSError):
            raise httpcore2.ConnectError("the name cannot be resolved")
        return outcome[0]


class _TimedStream(httpcore2.NetworkStream):
    """A connection each of whose steps gets only the time that is left."""

    def __init__(self, inner: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline
        self._filter = HeadFilter()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while True:
            block = self._inner.read(max_bytes, self._deadline.remaining(httpcore2.ReadTimeout, timeout))
            ready = self._filter.feed(block)
            if ready or not block:
                return ready

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In chunks, so that a receiver that takes a few bytes at a time cannot exceed the deadline.
        for start in range(0, len(buffer), WRITE_CHUNK):
            left = self._deadline.remaining(httpcore2.WriteTimeout, timeout)
            self._inner.write(buffer[start : start + WRITE_CHUNK], left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._deadline.remaining(httpcore2.ConnectTimeout, timeout)
        return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _parse_url(url: str) -> httpx2.URL:
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError):
        raise ForbiddenAddress("the address", "it is not a valid URL") from None
    if parts.scheme not in {"http", "https"}:
        raise ForbiddenAddress(display_url(url), "only http and https are allowed")
    if not parts.host or not 0 < (parts.port or 80) < 65536:
        raise ForbiddenAddress(display_url(url), "it has no host, or an impossible port")
    if parts.userinfo:
        raise ForbiddenAddress(display_url(url), "it holds a user or a password")
    return parts


def _httpcore_url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _read_body(chunks: Iterator[bytes]) -> tuple[bytes, str | None]:
    """The first `MAX_BODY` bytes of a body, and why it ended before its end."""
    content, broken = bytearray(), None
    try:
        for chunk in chunks:
            content += chunk
            if len(content) >= MAX_BODY:
                break
    except httpcore2.TimeoutException:
        broken = "its body did not end in time"
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
        broken = "its body is cut or broken"
    return bytes(content[:MAX_BODY]), broken


def _decode_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _failure_reason(error: Exception) -> str:
    cause = error.args[0] if error.args else None  # the pool clears __cause__, but the first argument is the cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, httpcore2.RemoteProtocolError):
        return "it hung up or did not speak HTTP"
    return cause if isinstance(cause, str) else "the connection failed"
