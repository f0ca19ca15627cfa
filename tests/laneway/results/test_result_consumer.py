"""Waits of the result backend on a real server, also while the server is away."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeout

from laneway.results.backend import ResultBackend
from tests.fixtures.backend_app import BACKEND, backend_app
from tests.fixtures.result_server import calls, connections
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.fixtures.waiting import wait_until


def test_publishing_sends_nothing_to_the_result_server(app: Celery, server: redis.Redis) -> None:
    app.send_task("backend.add", (1, 2))
    before = calls(server)
    app.send_task("backend.add", (1, 2))
    assert calls(server).get("subscribe", 0) == before.get("subscribe", 0)


def test_a_result_is_found_when_it_was_stored_before_and_when_it_comes_later(
    app: Celery, backend: ResultBackend
) -> None:
    backend.store_result("before", 1, "SUCCESS")
    assert app.AsyncResult("before").get(timeout=5) == 1
    with ThreadPoolExecutor(1) as threads:
        later = threads.submit(app.AsyncResult("later").get, timeout=10)
        wait_until(lambda: backend.result_consumer.lookups == (2, 2), seconds=5)
        backend.store_result("later", None, "STARTED")
        backend.store_result("later", 2, "SUCCESS")
        assert later.result(10) == 2


def test_on_message_gets_every_state(app: Celery, backend: ResultBackend) -> None:
    seen: list[str] = []

    def listen(meta: dict[str, Any]) -> None:
        seen.append(meta["status"])

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(app.AsyncResult("t").get, timeout=10, on_message=listen)
        wait_until(lambda: backend.result_consumer.lookups == (1, 1), seconds=5)
        for state in ("STARTED", "PROGRESS", "SUCCESS"):
            backend.store_result("t", 1, state)
        assert waiting.result(10) == 1
    assert seen == ["STARTED", "PROGRESS", "SUCCESS"]


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_wait_ends_when_its_time_is_over_and_leaves_nothing_behind(
    app: Celery, backend: ResultBackend, timeout: float
) -> None:
    with pytest.raises(CeleryTimeout):
        app.AsyncResult("never").get(timeout=timeout)
    backend.store_result("done", 5, "SUCCESS")
    assert app.AsyncResult("done").get(timeout=0) == 5
    assert backend.waiting_for("never") == []
    assert not backend._pending_results.concrete  # pyright: ignore[reportPrivateUsage]


def test_a_callback_set_with_then_outlasts_a_wait_that_timed_out(app: Celery, backend: ResultBackend) -> None:
    called: list[Any] = []
    result = app.AsyncResult("t")
    result.then(called.append)
    with pytest.raises(CeleryTimeout):
        result.get(timeout=0)
    backend.store_result("t", 1, "SUCCESS")
    backend.store_result("other", 2, "SUCCESS")
    assert app.AsyncResult("other").get(timeout=5) == 2
    wait_until(lambda: called or backend.result_consumer.drain_events(0.1), seconds=5)
    assert called == [result]


def test_forty_threads_wait_over_one_connection(app: Celery, backend: ResultBackend, server: redis.Redis) -> None:
    backend.store_result("warm", 0, "SUCCESS")
    before = connections(server)
    with ThreadPoolExecutor(40) as threads:
        waits = [threads.submit(app.AsyncResult(f"t{n // 2}").get, timeout=30) for n in range(40)]
        wait_until(lambda: len(backend.result_consumer._wanted) == 20, seconds=10)  # pyright: ignore[reportPrivateUsage]
        assert len(connections(server) - before) <= 1
        for n in reversed(range(20)):
            backend.store_result(f"t{n}", n, "SUCCESS")
        assert [wait.result(30) for wait in waits] == [n // 2 for n in range(40)]
    assert not backend._pending_results.concrete  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def long_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waiting threads sleep long, so that a missing wakeup makes the test fail."""
    monkeypatch.setattr("laneway.results.result_consumer.CHECK_SECONDS", 60.0)


def test_another_thread_reads_on_when_the_reading_one_ends_its_wait(
    app: Celery, backend: ResultBackend, long_sleeps: None
) -> None:
    consumer = backend.result_consumer
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(app.AsyncResult("first").get, timeout=20)
        wait_until(consumer._reading.locked, seconds=5)  # pyright: ignore[reportPrivateUsage]
        second = threads.submit(app.AsyncResult("second").get, timeout=20)
        wait_until(lambda: consumer._waiters, seconds=5)  # pyright: ignore[reportPrivateUsage]
        backend.store_result("first", 1, "SUCCESS")
        assert first.result(10) == 1
        backend.store_result("second", 2, "SUCCESS")
        assert second.result(10) == 2


def test_a_wait_that_begins_while_the_result_is_handed_out_gets_it_too(app: Celery, backend: ResultBackend) -> None:
    called: list[Any] = []
    early, late = app.AsyncResult("t"), app.AsyncResult("t")

    def wait_late(_: Any) -> None:
        late.then(called.append)

    early.then(wait_late)
    backend.store_result("t", 1, "SUCCESS")
    backend.store_result("other", 2, "SUCCESS")
    assert early.get(timeout=5) == 1
    assert app.AsyncResult("other").get(timeout=5) == 2
    wait_until(lambda: called or backend.result_consumer.drain_events(0.1), seconds=5)
    assert called == [late]


def test_threads_that_wait_while_the_result_comes_all_get_it(app: Celery, backend: ResultBackend) -> None:
    def wait_for(task_id: str, gate: threading.Barrier) -> Any:
        gate.wait()
        return app.AsyncResult(task_id).get(timeout=20)

    with ThreadPoolExecutor(7) as threads:
        for number in range(60):
            gate = threading.Barrier(7)
            waits = [threads.submit(wait_for, f"t{number}", gate) for _ in range(6)]
            gate.wait()
            backend.store_result(f"t{number}", number, "SUCCESS")
            assert [wait.result(30) for wait in waits] == [number] * 6


def test_two_threads_join_the_same_group(app: Celery, backend: ResultBackend) -> None:
    ids = [f"m{n}" for n in range(200)]

    def join() -> Any:
        return app.GroupResult("g", [app.AsyncResult(task_id) for task_id in ids]).get(timeout=30)

    with ThreadPoolExecutor(2) as threads:
        joins = [threads.submit(join) for _ in range(2)]
        wait_until(lambda: len(backend.result_consumer._wanted) == 200, seconds=10)  # pyright: ignore[reportPrivateUsage]
        for number, task_id in enumerate(ids):
            backend.store_result(task_id, number, "SUCCESS")
        assert [joined.result(30) for joined in joins] == [list(range(200))] * 2


def test_result_objects_without_a_wait_cost_nothing(app: Celery, backend: ResultBackend) -> None:
    for number in range(1000):
        app.AsyncResult(f"t{number}")
    gc.collect()
    consumer = backend.result_consumer
    assert not consumer._changed  # pyright: ignore[reportPrivateUsage]
    assert not consumer._wanted  # pyright: ignore[reportPrivateUsage]


def test_waiting_and_storing_go_on_after_the_server_was_away(
    app: Celery, backend: ResultBackend, valkey: RunningValkey
) -> None:
    backend.store_result("before", 1, "SUCCESS")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(app.AsyncResult("t").get, timeout=30)
        wait_until(lambda: backend.result_consumer.lookups == (1, 1), seconds=5)
        valkey.restart()
        backend.store_result("t", 2, "SUCCESS")
        assert waiting.result(30) == 2
    assert backend.get_result("before") == 1


class Proxy:
    """A way to the server that can fall silent without a word, as a lost network does."""

    def __init__(self, port: int) -> None:
        self._port, self._silent = port, threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Stop passing data on open connections; new ones work."""
        self._silent.set()
        self._silent = threading.Event()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ends = self._socket.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                for source, target in (ends, ends[::-1]):
                    threading.Thread(target=self._pass, args=(source, target, self._silent), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError), source, target:
            while chunk := source.recv(65536):
                if not silent.is_set():
                    target.sendall(chunk)


def test_a_silent_connection_is_replaced(
    redis_urls: RedisUrls, backend: ResultBackend, valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laneway.results.result_consumer.PING_SECONDS", 0.2)
    monkeypatch.setattr("laneway.results.result_consumer.REPLY_SECONDS", 0.2)
    monkeypatch.setattr("laneway.results.result_consumer.CHECK_SECONDS", 0.1)
    proxy = Proxy(valkey.port)
    app = backend_app(redis_urls.broker, f"{BACKEND}redis://127.0.0.1:{proxy.port}/1")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(app.AsyncResult("t").get, timeout=20)
        consumer: Any = app.backend.result_consumer
        wait_until(lambda: bool(consumer.lookups[1]), seconds=5)
        proxy.fall_silent()
        backend.store_result("t", 1, "SUCCESS")
        assert waiting.result(20) == 1
    app.backend.result_consumer.stop()
    app.close()
    proxy.close()


def test_a_wait_while_the_server_is_away_ends_in_time(app: Celery, valkey: RunningValkey) -> None:
    valkey.stop()
    try:
        with pytest.raises(CeleryTimeout):
            app.AsyncResult("t").get(timeout=0.5)
    finally:
        valkey.start()


def test_a_forked_child_uses_connections_of_its_own(app: Celery, backend: ResultBackend) -> None:
    backend.store_result("parent", 1, "SUCCESS")
    assert app.AsyncResult("parent").get(timeout=5) == 1
    child = os.fork()
    if child == 0:  # no assertions here: the child must end without pytest
        code = 1
        try:
            for number in range(50):
                backend.store_result(f"child{number}", number, "SUCCESS")
                code = 0 if app.AsyncResult(f"child{number}").get(timeout=5) == number else 1
        finally:
            os._exit(code)
    for number in range(50):
        backend.store_result(f"parent{number}", -number, "SUCCESS")
        assert app.AsyncResult(f"parent{number}").get(timeout=5) == -number
    assert os.waitpid(child, 0)[1] == 0
    assert app.AsyncResult("child49").get(timeout=5) == 49
