"""A server that refuses commands for a while is a broker that is away: nothing ends, and everything goes on later."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from laneway.engine import Engine, Message, RoundRobin, ServerLost
from laneway.engine.connection import refusal_in
from laneway.engine.errors import LoginRefused, ServerRefuses
from tests.fixtures.server_troubles import TROUBLES, password
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.engine.servers import redis_binary, server
from tests.laneway.worker.workers import Start, app, start

__all__ = ["app", "start"]
BINARIES = [None, *filter(None, [redis_binary()])]


@pytest.fixture(params=BINARIES, ids=["valkey", "redis"][: len(BINARIES)])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[int]:
    """A server of the test's own, with its data in `tmp_path/server`."""
    with server(tmp_path / "server", binary=request.param) as port:
        yield port


@pytest.fixture
def redis_urls(port: int, valkey: RunningValkey) -> RedisUrls:
    return RedisUrls(f"redis://127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/1", valkey)


@pytest.mark.parametrize("sign", TROUBLES)
def test_every_refusal_is_a_lost_server_that_says_why(sign: str, port: int, tmp_path: Path) -> None:
    engine = Engine.from_url(f"redis://127.0.0.1:{port}/0")
    engine.put("work", Message(task_id="before", name="x", body=b"\0[]"))
    (held,) = engine.fetch(RoundRobin({"work": 1}), 1).deliveries
    calls: dict[str, Callable[[], Any]] = {
        "put": lambda: engine.put("work", Message(task_id="t", name="x", body=b"\0[]")),
        "fetch": lambda: engine.fetch(RoundRobin({"work": 1}), 1),
        "renew": lambda: engine.renew([held]),
        "ack": lambda: engine.ack([held]),
        "connect": engine.check,
    }
    with redis.Redis(port=port) as admin, TROUBLES[sign](admin, tmp_path / "server"):
        for name, call in calls.items():
            with pytest.raises(ServerLost, match=sign):
                pytest.fail(f"{name}: {call()!r}")
    assert [status.name for status in engine.ack([held])] == ["DONE"]
    engine.close()


@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_a_refused_login_says_what_to_check(port: int, login: str) -> None:
    engine = Engine.from_url(f"redis://{login}127.0.0.1:{port}/0")
    with (
        redis.Redis(port=port) as admin,
        password(admin, Path()),
        pytest.raises(LoginRefused, match="user and password in the broker's address"),
    ):
        engine.check()
    engine.close()


@pytest.mark.parametrize("port", [None], indirect=True, ids=["valkey"])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_outlives_every_refusal_and_runs_each_task_once(
    pool: str, app: Any, start: Start, port: int, tmp_path: Path
) -> None:
    worker = start(pool, "-c", "2").wait_until_ready()
    with redis.Redis(port=port) as admin:
        for number, sign in enumerate(TROUBLES):
            note = tmp_path / f"during-{number}"
            running = app.note.delay(str(tmp_path), note.name, seconds=1.0)
            wait_until(note.exists, seconds=30)
            with TROUBLES[sign](admin, tmp_path / "server"):
                wait_until(partial(contains, note, "end"), seconds=30)
                wait_until(partial(contains, worker.log, sign), seconds=30)
            assert running.get(timeout=60) == note.name
            assert app.add.delay(number, 1).get(timeout=60) == number + 1
            assert note.read_text().count("start") == 1
    assert worker.stop() == 0
    assert not contains(worker.log, "Unrecoverable")


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN Hash slot not served",
        "ERR max number of clients reached",
        "ERR Error running script (call to f_1): @user_script:1: -MISCONF Redis is configured to save RDB snapshots",
    ],
)
def test_other_refusals_are_known_by_their_text(text: str) -> None:
    assert isinstance(refusal_in(text), ServerRefuses)


@pytest.mark.parametrize("text", ["BUSYKEY Target key name already exists.", "WRONGTYPE Operation against a key"])
def test_an_error_of_one_command_is_no_refusal(text: str) -> None:
    assert refusal_in(text) is None


def contains(file: Path, text: str) -> bool:
    return text in file.read_text()
