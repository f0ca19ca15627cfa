"""Results that wait for the acks of their tasks, on a real server."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
import redis
from celery import Celery

from laneway.engine import ServerLost
from laneway.engine.before_ack import flush_buffers, start_buffering, stop_buffering
from laneway.results.backend import ResultBackend
from laneway.results.store import hand_over_result
from tests.fixtures.result_server import calls, request
from tests.fixtures.valkey import RunningValkey


@pytest.fixture
def wakeups() -> Generator[list[int]]:
    """Buffers results; the list gets an entry each time that one begins to wait."""
    times: list[int] = []
    start_buffering(lambda: times.append(1))
    yield times
    stop_buffering()


def test_buffered_results_are_sent_together_before_the_acks(
    backend: ResultBackend, server: redis.Redis, wakeups: list[int]
) -> None:
    for number in range(30):
        backend.store_result(f"t{number}", number, "SUCCESS")
    assert wakeups
    assert server.dbsize() == 0
    before = calls(server).get("evalsha", 0)
    flush_buffers()
    assert server.dbsize() == 30
    assert calls(server)["evalsha"] - before <= 2


def test_no_more_than_a_group_waits(backend: ResultBackend, server: redis.Redis, wakeups: list[int]) -> None:
    for number in range(200):
        backend.store_result(f"t{number}", number, "SUCCESS")
    assert server.dbsize() == 192


def test_a_buffered_result_is_visible_in_its_process_and_stored_before_later_states(
    app: Celery, backend: ResultBackend, server: redis.Redis, wakeups: list[int]
) -> None:
    backend.store_result("t", 1, "SUCCESS")
    assert backend.get_result("t") == 1
    backend.store_result("u", 1, "SUCCESS")
    backend.store_result("u", None, "STARTED")
    assert backend.get_state("u") == "SUCCESS"
    assert server.dbsize() == 2
    backend.store_result("w", 1, "SUCCESS")
    backend.store_result("x", None, "STARTED")
    assert server.dbsize() == 4
    backend.store_result("v", 3, "SUCCESS")
    assert app.AsyncResult("v").get(timeout=5) == 3


def test_buffered_results_wait_while_the_server_is_away(
    backend: ResultBackend, valkey: RunningValkey, wakeups: list[int]
) -> None:
    backend.store_result("t", 1, "SUCCESS")
    valkey.stop()
    try:
        with pytest.raises(ServerLost):
            flush_buffers()
    finally:
        valkey.start()
    flush_buffers()
    assert backend.get_result("t") == 1


def test_a_deletion_does_not_wait_for_a_server_that_is_away(
    backend: ResultBackend, valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s")

    monkeypatch.setattr("kombu.utils.functional.sleep", wait)
    valkey.stop()
    try:
        with pytest.raises(ServerLost):
            backend.forget("t")
    finally:
        valkey.start()


def test_one_result_that_the_server_refuses_does_not_hold_up_the_others(
    backend: ResultBackend, server: redis.Redis, wakeups: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    server.rpush("celery-task-meta-bad", "not a string")
    for task_id in ("a", "bad", "b"):
        backend.store_result(task_id, 1, "SUCCESS")
    flush_buffers()
    assert [backend.get_state(task_id) for task_id in "ab"] == ["SUCCESS", "SUCCESS"]
    assert "celery-task-meta-bad" in caplog.text


def test_a_forked_child_does_not_send_the_results_that_its_parent_buffered(
    backend: ResultBackend, server: redis.Redis, wakeups: list[int]
) -> None:
    backend.store_result("parent", 1, "SUCCESS")
    child = os.fork()
    if child == 0:
        try:
            flush_buffers()
            backend.store_result("child", 1, "SUCCESS")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert server.keys() == [b"celery-task-meta-child"]


def test_only_the_final_state_of_the_task_is_handed_over(backend: ResultBackend, server: redis.Redis) -> None:
    with hand_over_result("t") as handover:
        backend.store_result("t", None, "STARTED")
        backend.store_result("other", 1, "SUCCESS")
        backend.store_result("t", 1, "SUCCESS")
        assert server.dbsize() == 2
        assert [record.key for record in handover.records] == [b"celery-task-meta-t"]
    assert backend.results.get(b"celery-task-meta-t")
    for record in handover.records:
        backend.results.buffer(record)
    assert backend.get_state("t") == "SUCCESS"


@pytest.mark.parametrize("follower", ["chain", "chord", "callbacks", "errbacks"])
def test_a_result_that_other_tasks_follow_is_stored_at_once(
    backend: ResultBackend, server: redis.Redis, wakeups: list[int], follower: str
) -> None:
    with hand_over_result("t") as handover:
        backend.store_result("t", 1, "SUCCESS", request=request("t", **{follower: ["x"]}))
        assert not handover.records
    assert server.dbsize() == 1
    assert not wakeups


def test_a_handed_over_result_is_stored_here_when_it_is_read_too_long_or_its_task_is_interrupted(
    backend: ResultBackend, server: redis.Redis
) -> None:
    with hand_over_result("read"):
        backend.store_result("read", 1, "SUCCESS")
        assert backend.get_result("read") == 1
    with hand_over_result("long") as handover:
        backend.store_result("long", "x" * 20_000, "SUCCESS")
        assert not handover.records
    with pytest.raises(KeyboardInterrupt), hand_over_result("broken"):
        backend.store_result("broken", 1, "SUCCESS")
        raise KeyboardInterrupt
    assert server.dbsize() == 3


def test_a_buffered_result_is_found_by_a_wait_of_its_process(
    app: Celery, backend: ResultBackend, wakeups: list[int]
) -> None:
    assert app.AsyncResult("first").ready() is False
    for number in range(2):  # the second wait uses the connection of the first
        backend.store_result(f"t{number}", number, "SUCCESS")
        assert app.AsyncResult(f"t{number}").get(timeout=0) == number
