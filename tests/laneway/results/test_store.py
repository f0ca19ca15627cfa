"""The records that the result backend stores, on a real server."""

from __future__ import annotations

import json
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from kombu.exceptions import EncodeError

from laneway.results.backend import ResultBackend, SentinelResultBackend
from laneway.results.store import Record, ResultStore
from tests.fixtures.backend_app import BACKEND, Refused, backend_app
from tests.fixtures.result_server import calls, request
from tests.fixtures.valkey import RedisUrls

stock_celery_warns = pytest.mark.filterwarnings("ignore:Call to deprecated setex")


@stock_celery_warns
def test_a_result_is_stored_in_one_call_and_read_by_stock_celery(
    backend: ResultBackend, server: redis.Redis, redis_urls: RedisUrls
) -> None:
    backend.store_result("warm", 1, "SUCCESS")
    before = calls(server)
    backend.store_result("t", {"a": [1, None]}, "SUCCESS", request=request("t", group="g", parent_id="p"))
    after = calls(server)

    assert {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)} == {
        "evalsha": 1,
        "getrange": 1,
        "set": 1,
        "publish": 1,
    }
    stock = Celery("stock", backend=redis_urls.backend, set_as_current=False)
    meta = stock.backend.get_task_meta("t")
    assert (meta["status"], meta["result"], meta["group_id"], meta["parent_id"]) == (
        "SUCCESS",
        {"a": [1, None]},
        "g",
        "p",
    )
    stock.backend.store_result("s", 2, "SUCCESS")
    assert backend.get_result("s") == 2


@stock_celery_warns
@pytest.mark.parametrize("settings", [{}, {"result_extended": True}, {"timezone": "Europe/Rome", "enable_utc": False}])
@pytest.mark.parametrize("state", ["STARTED", "SUCCESS", "FAILURE"])
def test_the_stored_form_is_that_of_stock_celery(redis_urls: RedisUrls, settings: dict[str, Any], state: str) -> None:
    def stored(url: str) -> dict[str, Any]:
        app = Celery("either", backend=url, set_as_current=False)
        app.conf.update(settings)
        value = Refused("no") if state == "FAILURE" else {"n": 1}
        about = request("t", args=[1], kwargs={"b": 2}, hostname="w", retries=1, delivery_info={"routing_key": "q"})
        app.backend.store_result("t", value, state, traceback="tb", request=about)
        with redis.Redis.from_url(redis_urls.backend) as client:
            raw = client.get("celery-task-meta-t")
            assert 0 < client.ttl("celery-task-meta-t") <= 86400  # pyright: ignore[reportOperatorIssue]
            client.flushdb()
        meta: dict[str, Any] = json.loads(raw)  # pyright: ignore[reportArgumentType]
        if meta["date_done"]:
            meta["date_done"] = [len(meta["date_done"]), meta["date_done"][-6:]]
        return meta

    assert stored(BACKEND + redis_urls.backend) == stored(redis_urls.backend)


def test_a_success_stays_and_a_finished_task_never_becomes_unfinished(backend: ResultBackend) -> None:
    def after(*sequence: str) -> str:
        task_id = str(uuid4())
        for state in sequence:
            backend.store_result(task_id, Refused("no") if state in ("FAILURE", "REVOKED") else state, state)
        return backend.get_state(task_id)

    assert after("STARTED", "RETRY", "STARTED", "SUCCESS") == "SUCCESS"
    assert after("SUCCESS", "STARTED") == "SUCCESS"
    assert after("SUCCESS", "FAILURE") == "SUCCESS"
    assert after("SUCCESS", "REVOKED") == "SUCCESS"
    assert after("FAILURE", "STARTED") == "FAILURE"
    assert after("REVOKED", "RETRY") == "REVOKED"
    assert after("FAILURE", "SUCCESS") == "SUCCESS"
    assert after("STARTED", "REVOKED") == "REVOKED"


@pytest.mark.parametrize("settings", [{"result_serializer": "pickle"}, {"result_compression": "gzip"}])
def test_the_order_of_states_holds_for_payloads_that_do_not_show_theirs(
    redis_urls: RedisUrls, settings: dict[str, Any]
) -> None:
    app = backend_app(redis_urls.broker, BACKEND + redis_urls.backend, accept_content=["json", "pickle"], **settings)
    backend = app.backend
    for value, state in ((None, "STARTED"), ({"n": 1}, "SUCCESS"), (None, "STARTED"), (2, "SUCCESS")):
        backend.store_result("t", value, state)
    assert (backend.get_state("t"), backend.get_result("t")) == ("SUCCESS", {"n": 1})
    app.close()


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_many_writers_of_one_result_leave_the_first_success(redis_urls: RedisUrls, serializer: str) -> None:
    settings: dict[str, Any] = {"result_serializer": serializer, "accept_content": ["json", "pickle"]}
    app = backend_app(redis_urls.broker, BACKEND + redis_urls.backend, **settings)
    backend: ResultBackend = app.backend
    backend.store_result("t", None, "STARTED")
    results: set[Any] = set()
    gate = threading.Barrier(8)

    def write(number: int) -> None:
        gate.wait()
        for _ in range(20):
            backend.store_result("t", number, "SUCCESS" if number % 2 else "STARTED")
            results.add(backend.get_result("t"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len({result for result in results if isinstance(result, int) and result % 2}) == 1
    assert backend.get_state("t") == "SUCCESS"
    app.close()


def test_a_result_that_changes_after_it_was_read_is_read_again(backend: ResultBackend, server: redis.Redis) -> None:
    def meddle(payload: bytes) -> str:
        if payload == b"opaque: started":
            server.set("r", b"opaque: success")
            return "STARTED"
        return "SUCCESS"

    server.set("r", b"opaque: started")
    ResultStore(backend.results.pool, status_of=meddle).store(Record(b"r", b"late", 0, final=True))
    assert server.get("r") == b"opaque: success"


def test_results_expire_as_configured(redis_urls: RedisUrls, server: redis.Redis) -> None:
    app = backend_app(redis_urls.broker, BACKEND + redis_urls.backend, result_expires=100, result_failure_expires=500)
    app.backend.store_result("good", 1, "SUCCESS")
    app.backend.store_result("bad", Refused("no"), "FAILURE")
    assert 0 < server.ttl("celery-task-meta-good") <= 100  # pyright: ignore[reportOperatorIssue]
    assert 100 < server.ttl("celery-task-meta-bad") <= 500  # pyright: ignore[reportOperatorIssue]
    app.close()
    app = backend_app(redis_urls.broker, BACKEND + redis_urls.backend, result_expires=0)
    app.backend.store_result("ever", 1, "SUCCESS")
    assert server.ttl("celery-task-meta-ever") == -1
    app.close()


def test_a_result_that_cannot_be_serialized_is_an_encode_error(backend: ResultBackend) -> None:
    with pytest.raises(EncodeError):
        backend.store_result("t", object(), "SUCCESS")
    assert backend.get_state("t") == "PENDING"


def test_an_exception_comes_back_as_itself_with_its_traceback(app: Celery, backend: ResultBackend) -> None:
    try:
        raise Refused("as asked", 7)
    except Refused as error:
        backend.mark_as_failure("t", error, traceback=traceback.format_exc(), request=request("t"))
    result = app.AsyncResult("t")
    assert "Refused" in result.traceback
    with pytest.raises(Refused) as raised:
        result.get(timeout=5)
    assert raised.value.args == ("as asked", 7)


def test_a_forgotten_result_is_gone(app: Celery, backend: ResultBackend) -> None:
    backend.store_result("t", 1, "SUCCESS")
    result = app.AsyncResult("t")
    assert result.get(timeout=5) == 1
    result.forget()
    assert backend.get_state("t") == "PENDING"
    backend.store_result("t", None, "STARTED")
    assert backend.get_state("t") == "STARTED"


def test_a_group_is_saved_restored_and_deleted(app: Celery, backend: ResultBackend) -> None:
    group = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
    group.save()
    for task_id in "ab":
        backend.store_result(task_id, task_id, "SUCCESS")
    restored = app.GroupResult.restore("g")
    assert restored.get(timeout=5) == ["a", "b"]
    restored.delete()
    assert app.GroupResult.restore("g") is None


def test_a_sentinel_url_chooses_the_class_that_asks_sentinel() -> None:
    app = Celery("s", backend=f"{BACKEND}sentinel://:secret@127.0.0.1:1/1;sentinel://127.0.0.1:2", set_as_current=False)
    app.conf.result_backend_transport_options = {"master_name": "main"}
    assert isinstance(app.backend, SentinelResultBackend)
    assert "secret" not in str(app.backend.as_uri())


def test_a_result_is_stored_on_a_server_whose_memory_is_full(backend: ResultBackend, server: redis.Redis) -> None:
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", 1)
    try:
        backend.store_result("t", {"answer": 42}, "SUCCESS")
        backend.store_result("u", None, "STARTED")
        backend.store_result("u", 7, "SUCCESS")
    finally:
        server.config_set("maxmemory", 0)
    assert (backend.get_result("t"), backend.get_result("u")) == ({"answer": 42}, 7)
    assert server.ttl(backend.get_key_for_task("t")) > 0
