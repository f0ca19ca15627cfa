"""A connection that is spoken to directly: each reply belongs to its command, also beside those nobody waits for."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from redis.exceptions import ResponseError

from laneway.engine import Engine
from laneway.engine.connection import RawConnection
from laneway.engine.errors import ServerLost
from tests.fixtures.valkey import RunningValkey


@pytest.fixture
def wire(engine: Engine) -> Generator[RawConnection]:
    made = RawConnection(engine.runner.pool)
    yield made
    made.close()


def test_a_posted_command_is_carried_out_in_its_place(wire: RawConnection) -> None:
    for number in range(300):
        wire.post(("RPUSH", "list", number))
    assert wire.call("LLEN", "list") == 300
    assert wire.pipeline([("LINDEX", "list", 0), ("LINDEX", "list", -1)]) == [b"0", b"299"]


def test_the_error_of_a_posted_command_is_nobody_elses(wire: RawConnection) -> None:
    wire.call("SET", "text", "x")
    wire.post(("INCR", "text"))
    assert wire.call("GET", "text") == b"x"
    wire.post(("NO-SUCH-COMMAND",))
    with pytest.raises(ResponseError, match="not an integer"):
        wire.call("INCR", "text")
    assert wire.call("PING") == b"PONG"


def test_a_wire_that_broke_behind_a_posted_command_says_so(wire: RawConnection, engine: Engine) -> None:
    wire.post(("RPUSH", "list", 1))
    own = wire.call("CLIENT", "ID")
    wire.post(("RPUSH", "list", 2))
    engine.runner.on_connection(lambda other, _: other.call("CLIENT", "KILL", "ID", own))
    with pytest.raises(ServerLost):
        for _ in range(10):
            wire.call("PING")
    assert wire.closed


def test_a_frozen_server_keeps_nobody_longer_than_it_may_take_to_connect(
    valkey: RunningValkey, engine_url: str
) -> None:
    engine = Engine.from_url(engine_url, socket_connect_timeout=0.3, socket_timeout=60)
    with valkey.frozen(), pytest.raises(ServerLost):
        RawConnection(engine.runner.pool)
    wire = RawConnection(engine.runner.pool)
    assert wire.call("PING") == b"PONG"
    assert wire._socket.gettimeout() == 60  # pyright: ignore[reportPrivateUsage]
    wire.close()
    engine.close()
