"""A load on one HTTP route: `python load.py URL CONNECTIONS SECONDS BODY` prints one line of JSON.

It needs the standard library only. Each connection sends its next request when it has the answer to the last one.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One connection, and what its answers took."""

    def __init__(self, request: bytes, until: float) -> None:
        self._request, self._until = request, until
        self._buffer, self._sent = b"", 0.0
        self._transport: asyncio.Transport | None = None
        self.taken: list[float] = []
        """Milliseconds of each request that was accepted."""
        self.failed = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count an answer that is complete, and send the next request."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not separator or (length and len(body) < int(length[1])):
            return
        self._buffer = b""
        if head.split(b" ", 2)[1].startswith(b"2"):
            self.taken.append((time.perf_counter() - self._sent) * 1000)
        else:
            self.failed += 1
        if time.perf_counter() < self._until:
            self._send()
        elif self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that did not come has failed."""
        del exc
        self.failed += time.perf_counter() < self._until
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        if self._transport:
            self._transport.write(self._request)


async def load(url: str, connections: int, seconds: float, body: bytes) -> dict[str, float]:
    """Send for so long; returns the counts, and the p50 and p99 of the accepted in ms."""
    place = urlsplit(url)
    host, port = place.hostname or "127.0.0.1", place.port or 80
    head = f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(request, began + seconds), host, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.ended for connection in made))
    taken = sorted(each for connection in made for each in connection.taken)
    return {
        "accepted": len(taken),
        "failed": sum(connection.failed for connection in made),
        "seconds": time.perf_counter() - began,
        "p50": quantile(taken, 0.5),
        "p99": quantile(taken, 0.99),
    }


def quantile(ordered: list[float], share: float) -> float:
    """A quantile of sorted numbers; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


if __name__ == "__main__":
    _, address, number, length_of_time, content = sys.argv
    print(json.dumps(asyncio.run(load(address, int(number), float(length_of_time), content.encode()))))
