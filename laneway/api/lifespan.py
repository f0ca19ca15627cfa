"""What an API process does beside its requests.

It relays accepted tasks, stores once a minute what the queues look like, and ends open event streams when it stops.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from laneway.api.event_loop_lag import watched_event_loop
from laneway.platform import tracing
from laneway.platform.history.sampler import Sampler
from laneway.platform.platform import Platform
from laneway.platform.signing_check import check_signing
from laneway.platform.submission.outbox import Relay

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def serving(platform: Platform) -> AsyncGenerator[None]:
    """Serve requests in this block; for the lifespan of an ASGI application. At its end the platform is closed."""
    check_signing(platform.settings)

    def stop_streams() -> None:
        platform.event_stream.stop()
        platform.event_feed.stop()

    relay, sampler = Relay(platform.tasks.outbox), Sampler(platform.queue_samples)
    relay.start()
    sampler.start()
    try:
        with _on_stop_signal(stop_streams):
            async with watched_event_loop():
                yield
    finally:
        stop_streams()
        sampler.stop()
        relay.stop()
        platform.close()
        tracing.stop()


@contextmanager
def _on_stop_signal(notify: Callable[[], object]) -> Generator[None]:
    """Call `notify` in the event loop when the process is told to stop.

    The server ends the lifespan only after the open requests, so an endless stream would never learn of the stop. The
    server's own handlers, which it has set before the lifespan begins, are called, too.
    """
    if threading.current_thread() is not threading.main_thread():  # a test client: nobody sends it signals
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(notify)  # not here: a lock that it takes may be held by the interrupted code
        server = before[signal.Signals(number)]
        if callable(server):
            server(number, frame)

    replaced = [number for number in STOP_SIGNALS if callable(before[number])]
    for number in replaced:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])
