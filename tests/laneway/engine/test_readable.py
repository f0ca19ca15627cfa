"""Waiting for sockets with `poll`, and without it, as under eventlet."""

from __future__ import annotations

import select
import socket

import pytest

from laneway.engine.readable import wait_until_readable


@pytest.mark.parametrize("has_poll", [True, False])
def test_it_returns_the_sockets_that_have_data_or_were_closed(monkeypatch: pytest.MonkeyPatch, has_poll: bool) -> None:
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    (ours, theirs), (other, quiet), (closing, closed) = (socket.socketpair() for _ in range(3))
    with ours, theirs, other, quiet, closing:
        descriptors = [ours.fileno(), other.fileno(), closing.fileno()]
        assert wait_until_readable(descriptors, 0) == []
        assert wait_until_readable(descriptors, -1) == []

        theirs.send(b"x")
        assert wait_until_readable(descriptors, 10) == [ours.fileno()]
        closed.close()
        assert sorted(wait_until_readable(descriptors, 10)) == sorted([ours.fileno(), closing.fileno()])
