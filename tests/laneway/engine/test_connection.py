"""A raw connection: each reply belongs to its command, also beside posted commands whose replies are ignored."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import redis
from redis.exceptions import ResponseError

from laneway.engine import Engine, ServerLost
from laneway.engine.connection import MAX_UNREAD, RawConnection
from laneway.engine.url import make_pool
from tests.fixtures.valkey import RunningValkey


@pytest.fixture
def connection(engine: Engine) -> Generator[RawConnection]:
    connection = RawConnection(engine.runner.pool)
    yield connection
    connection.close()


def test_posted_commands_run_in_order(connection: RawConnection) -> None:
    for number in range(300):
        connection.post(("RPUSH", "list", number))
    assert connection.call("LLEN", "list") == 300
    assert connection.pipeline([("LINDEX", "list", 0), ("LINDEX", "list", -1)]) == [b"0", b"299"]


def test_the_error_of_a_posted_command_is_not_raised_by_another(connection: RawConnection) -> None:
    connection.call("SET", "text", "x")
    connection.post(("INCR", "text"))
    assert connection.call("GET", "text") == b"x"
    connection.post(("NO-SUCH-COMMAND",))
    with pytest.raises(ResponseError, match="not an integer"):
        connection.call("INCR", "text")
    assert connection.call("PING") == b"PONG"


def test_a_connection_that_breaks_after_a_posted_command_raises_server_lost(
    connection: RawConnection, engine: Engine
) -> None:
    connection.post(("RPUSH", "list", 1))
    client_id = connection.call("CLIENT", "ID")
    connection.post(("RPUSH", "list", 2))
    engine.runner.call("CLIENT", "KILL", "ID", client_id)
    with pytest.raises(ServerLost):
        for _ in range(10):
            connection.call("PING")
    assert connection.closed


def test_connecting_to_a_frozen_server_takes_no_longer_than_the_connect_timeout(
    valkey: RunningValkey, engine_url: str
) -> None:
    engine = Engine.from_url(engine_url, socket_connect_timeout=0.3, socket_timeout=60)
    with valkey.frozen(), pytest.raises(ServerLost):
        RawConnection(engine.runner.pool)
    connection = RawConnection(engine.runner.pool)
    assert connection.call("PING") == b"PONG"
    assert connection._socket.gettimeout() == 60  # pyright: ignore[reportPrivateUsage]
    connection.close()
    engine.close()


def test_a_connection_that_only_posts_leaves_few_replies_on_the_server(connection: RawConnection) -> None:
    for number in range(MAX_UNREAD * 20):
        connection.post(("RPUSH", "list", number))
        assert connection._posted <= MAX_UNREAD
    assert connection.call("LLEN", "list") == MAX_UNREAD * 20


def test_the_server_is_told_which_library_connects_and_its_version_is_read_once(
    connection: RawConnection, valkey: RunningValkey
) -> None:
    one, other = (make_pool(valkey.url(number)).connection_kwargs["driver_info"] for number in (1, 2))

    assert b" lib-name=redis-py lib-ver=%s " % redis.__version__.encode() in connection.call("CLIENT", "INFO") + b" "
    assert one is other
