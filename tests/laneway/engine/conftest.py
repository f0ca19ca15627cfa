"""Engines whose time stands still, and replies that are lost."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from laneway.engine import Engine, ServerLost
from laneway.engine.connection import RawConnection
from laneway.engine.url import make_pool
from tests.laneway.engine.clock import CLOCK_LUA, move_to


@pytest.fixture
def still(engine_url: str) -> Generator[Engine]:
    """An engine whose time stands still at NOW_MS, until the test moves it."""
    engine = Engine(make_pool(engine_url), clock=CLOCK_LUA)
    move_to(engine, 0)
    yield engine
    engine.close()


class LostReply:
    """Breaks the connection when it has read a reply equal to `reply`, once: the server has run the command."""

    def __init__(self, reply: object, *, on_loss: Callable[[], None] | None = None) -> None:
        self.lost = False
        self._reply, self._on_loss = reply, on_loss
        self._receive = RawConnection.receive

    def receive(self, connection: RawConnection, *, timeout: float | None = None) -> object:
        """What `RawConnection.receive` returns, unless it is lost now."""
        reply = self._receive(connection, timeout=timeout)
        if self.lost or reply != self._reply:
            return reply
        self.lost = True
        if self._on_loss:
            self._on_loss()
        connection.close()
        raise ServerLost("cut by the test, after the server had run the command")


@pytest.fixture
def lose_reply(monkeypatch: pytest.MonkeyPatch) -> Callable[[LostReply], LostReply]:
    """Lose the reply once, from now on."""

    def lose(lost_reply: LostReply) -> LostReply:
        def receive(connection: RawConnection, *, timeout: float | None = None) -> object:
            return lost_reply.receive(connection, timeout=timeout)

        monkeypatch.setattr(RawConnection, "receive", receive)
        return lost_reply

    return lose
