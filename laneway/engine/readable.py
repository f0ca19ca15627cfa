"""Waits for sockets, in threads as in the green threads of gevent and eventlet."""

from __future__ import annotations

import select
from collections.abc import Sequence


def wait_until_readable(descriptors: Sequence[int], seconds: float) -> list[int]:
    """Wait until some of these file descriptors can be read, or have failed, and return them; [] after `seconds`.

    gevent replaces `select.poll`. eventlet removes it, and replaces `select.select`. Therefore both are looked up at
    each call.
    """
    seconds = max(0.0, seconds)
    if not hasattr(select, "poll"):
        readable, _, failed = select.select(descriptors, (), descriptors, seconds)
        return [*dict.fromkeys([*readable, *failed])]
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(seconds * 1000)]
